// The program engine of SplitRegex: see regex.h.
#pragma once

#include <array>
#include <memory>
#include <string_view>
#include <vector>

#include "text/regex.h"
#include "text/regex_ast.h"

namespace fathom {

class RegexProgram final : public SplitRegex {
 public:
  /// kUnsupported when the tree needs something that only PCRE2 has (an unbounded group that may match nothing, more
  /// than 64 alternatives, a program that would grow too large).
  static Result<std::unique_ptr<const SplitRegex>> Build(const RegexNode& tree);

  void FindAll(std::string_view text, FunctionRef<void(size_t, size_t)> visit) const override;
  RegexEngine engine() const override { return RegexEngine::kProgram; }

 private:
  friend class RegexCompiler;

  enum class Op : uint8_t {
    kSet,     // one character in sets_[set]
    kRun,     // min to max characters in sets_[set], as many as possible
    kSplit,   // try x, then y
    kJump,    // to x
    kLook,    // the program at pc + 1 ends in kAccept; go on at x when it does (not: negative) match here
    kAssert,  // `assertion` holds here
    kAccept,
  };
  struct Instruction {
    Op op = Op::kAccept;
    bool negative = false;
    bool keep = false;  // kRun: giving characters back can never help
    RegexNode::Kind assertion = RegexNode::Kind::kEmpty;
    uint32_t set = 0, x = 0, y = 0;
    uint32_t min = 0, max = 0;
  };
  struct Choice {
    uint32_t pc;
    size_t pos;
    size_t floor;  // of a run: how far it may be given back; pos when this is no run
  };
  struct Search {
    std::string_view text;
    std::vector<Choice> stack;
    int64_t budget;
  };

  static constexpr size_t kNone = static_cast<size_t>(-1);
  /// Where a match of the program at pc that starts at pos ends; kNone without one (or when the budget is spent).
  size_t Match(Search& search, uint32_t pc, size_t pos) const;
  bool Holds(RegexNode::Kind assertion, std::string_view text, size_t pos) const;
  void Analyse(const std::vector<RegexNode>& alternatives);

  std::vector<FastSet> sets_;
  std::vector<CodePointSet> plain_sets_;  // the same, for analysis
  std::vector<Instruction> code_;
  std::vector<uint32_t> starts_;             // of each alternative
  std::array<uint64_t, 256> by_first_byte_{};  // which alternatives can begin with this byte
  uint64_t nullable_ = 0;                    // which can match nothing
  FastSet first_;                            // what a match that is not empty can begin with
  FastSet word_;
};

}  // namespace fathom
