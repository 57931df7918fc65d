// A folder of a test's own, removed with everything in it; and memory that DirectFile takes.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "io/direct_file.h"

namespace fathom {

class TempFolderForTest {
 public:
  /// in_memory: on a memory file system where there is one, for tests that sync a great deal.
  explicit TempFolderForTest(bool in_memory = false) {
    const std::filesystem::path memory = "/dev/shm";
    const auto parent =
        in_memory && ::access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path();
    std::string pattern = (parent / "fathom_test_XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~TempFolderForTest() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolderForTest(const TempFolderForTest&) = delete;
  TempFolderForTest& operator=(const TempFolderForTest&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Zeroed, aligned to DirectFile::kAlignment.
class PagesForTest {
 public:
  explicit PagesForTest(int64_t bytes)
      : data_(static_cast<std::byte*>(std::aligned_alloc(DirectFile::kAlignment, static_cast<size_t>(bytes))),
              &std::free),
        size_(static_cast<size_t>(bytes)) {
    std::fill_n(data_.get(), size_, std::byte{0});
  }
  std::byte* data() { return data_.get(); }
  std::span<std::byte> span() { return {data_.get(), size_}; }
  std::byte& operator[](int64_t index) { return data_.get()[index]; }
  /// Bytes that differ with `seed` and position.
  void Fill(uint64_t seed) {
    for (size_t i = 0; i < size_; ++i) {
      data_.get()[i] = static_cast<std::byte>((seed * 0x9E3779B97F4A7C15u + i * 0xBF58476D1CE4E5B9u) >> 40);
    }
  }

 private:
  std::unique_ptr<std::byte, void (*)(void*)> data_;
  size_t size_;
};

}  // namespace fathom
