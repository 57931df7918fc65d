// For tests only: where the fixtures are, and small vocabularies.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/source_dir_for_test.h"
#include "text/tokenizer.h"

namespace fathom {

inline std::string ReadFileForTest(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline std::filesystem::path GoldenDir() { return std::filesystem::path(SourceDirForTest()) / "tests" / "golden"; }

/// The shared data beside the checkout; may be absent (then tests that need it skip).
inline std::filesystem::path SharedDataDir() {
  if (const char* dir = std::getenv("FATHOM_SHARED_DATA")) return dir;
  return std::filesystem::path(SourceDirForTest()) / ".." / "shared" / "data";
}

inline std::unique_ptr<Tokenizer> TokenizerFromJsonForTest(std::string_view json, std::string_view config = {}) {
  TokenizerSpec spec;
  spec.tokenizer_json = json;
  spec.tokenizer_config_json = config;
  auto tokenizer = Tokenizer::Create(spec);
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

/// One of tests/golden/tokenizers.
inline std::unique_ptr<Tokenizer> GoldenTokenizer(const std::string& name) {
  return TokenizerFromJsonForTest(ReadFileForTest(GoldenDir() / "tokenizers" / (name + ".json")));
}

/// Deterministic pseudo-random numbers that are the same everywhere.
class RandomForTest {
 public:
  explicit RandomForTest(uint64_t seed) : state_(seed * 2 + 1) {}
  uint32_t Below(uint32_t bound) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<uint32_t>((state_ >> 33) % bound);
  }

 private:
  uint64_t state_;
};

/// Text with a bit of everything: words, spaces, digits, letters and marks of many scripts, controls, emoji.
std::string RandomTextForTest(RandomForTest& random, bool broken_utf8 = false);

}  // namespace fathom
