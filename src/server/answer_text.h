// The white space between a model's reasoning and its answer belongs to neither: APIs do not show it. One per answer.
#pragma once

#include <string>
#include <string_view>

namespace fathom {

class AnswerTrim {
 public:
  void SawReasoning() { skipping_ = !started_; }
  std::string_view Trim(std::string_view content) {
    if (skipping_) {
      const size_t begin = content.find_first_not_of(" \t\r\n");
      if (begin == std::string_view::npos) return {};
      content.remove_prefix(begin);
      skipping_ = false;
    }
    if (!content.empty()) started_ = true;
    return content;
  }

 private:
  bool skipping_ = false, started_ = false;
};

inline std::string TrimmedAnswer(std::string_view reasoning, std::string_view content) {
  AnswerTrim trim;
  if (!reasoning.empty()) trim.SawReasoning();
  return std::string(trim.Trim(content));
}

}  // namespace fathom
