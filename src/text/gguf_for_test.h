// For tests only: the tokenizer metadata of a small trusted GGUF file. (The real reader is another room's; this one
// checks next to nothing.)
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace fathom {

struct GgufVocabularyForTest {
  std::map<std::string, std::string> strings;
  std::map<std::string, int64_t> numbers;
  std::vector<std::string> tokens, merges;
  std::vector<int32_t> token_types;

  TokenizerSpec Spec() const {
    TokenizerSpec spec;
    const auto text = [&](const char* key) -> std::string_view {
      const auto it = strings.find(std::string("tokenizer.ggml.") + key);
      return it == strings.end() ? std::string_view() : it->second;
    };
    const auto number = [&](const char* key) {
      const auto it = numbers.find(std::string("tokenizer.ggml.") + key);
      return it == numbers.end() ? -1 : static_cast<int>(it->second);
    };
    spec.ggml_model = text("model");
    spec.ggml_pre = text("pre");
    spec.tokens = tokens;
    spec.token_types = token_types;
    spec.merges = merges;
    spec.bos_id = number("bos_token_id");
    spec.eos_id = number("eos_token_id");
    spec.eot_id = number("eot_token_id");
    spec.unk_id = number("unknown_token_id");
    spec.add_bos = number("add_bos_token");
    return spec;
  }
};

inline bool ReadGgufForTest(const std::string& path, GgufVocabularyForTest& out) {
  std::ifstream file(path, std::ios::binary);
  const std::string data((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (data.size() < 24 || data.compare(0, 4, "GGUF") != 0) return false;
  size_t at = 4;
  const auto number = [&](size_t width) {
    uint64_t value = 0;
    if (at + width <= data.size()) std::memcpy(&value, data.data() + at, width);
    at += width;
    return value;
  };
  const auto text = [&] {
    const uint64_t length = number(8);
    std::string value = data.substr(std::min(at, data.size()), length);
    at += length;
    return value;
  };
  const auto width = [](uint64_t type) -> size_t {
    static constexpr size_t kWidths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return kWidths[type];
  };
  number(4), number(8);
  const uint64_t pairs = number(8);
  for (uint64_t i = 0; i < pairs && at < data.size(); ++i) {
    const std::string key = text();
    const uint64_t type = number(4);
    if (type == 8) {
      out.strings[key] = text();
    } else if (type == 9) {
      const uint64_t element = number(4), count = number(8);
      for (uint64_t j = 0; j < count && at < data.size(); ++j) {
        if (element == 8) {
          std::string value = text();
          if (key == "tokenizer.ggml.tokens") out.tokens.push_back(std::move(value));
          if (key == "tokenizer.ggml.merges") out.merges.push_back(std::move(value));
        } else {
          const uint64_t value = number(width(element));
          if (key == "tokenizer.ggml.token_type") out.token_types.push_back(static_cast<int32_t>(value));
        }
      }
    } else {
      out.numbers[key] = static_cast<int64_t>(number(width(type)));
    }
  }
  return true;
}

}  // namespace fathom
