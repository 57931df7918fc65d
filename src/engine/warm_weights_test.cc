#include "engine/warm_weights.h"

#include <gtest/gtest.h>

#include <chrono>
#include <mutex>

#include "io/env.h"

namespace fathom {
namespace {

/// Two tensors of 20 and 3 MB that remember what was asked of them.
class FileForTest : public ModelFile {
 public:
  FileForTest() {
    tensors_.push_back({.name = "a", .bytes = 20'000'000, .offset = 4096});
    tensors_.push_back({.name = "b", .bytes = 3'000'000, .offset = 30'000'000});
  }
  ModelFormat format() const override { return ModelFormat::kGguf; }
  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer_source() const override { return source_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view) const override { return nullptr; }
  std::span<const std::string> files() const override { return {}; }
  std::vector<std::pair<std::string, std::string>> Metadata() const override { return {}; }
  void Advise(const TensorInfo& tensor, MapAdvice advice) const override {
    EXPECT_EQ(advice, MapAdvice::kPopulate);
    const std::lock_guard lock(mutex_);
    asked_.emplace_back(tensor.offset, tensor.bytes);
  }
  std::vector<std::pair<int64_t, int64_t>> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  ModelConfig config_;
  TokenizerSource source_;
  std::vector<TensorInfo> tensors_;
  mutable std::mutex mutex_;
  mutable std::vector<std::pair<int64_t, int64_t>> asked_;
};

TEST(WarmWeights, CoversEveryTensorOnceInPieces) {
  const FileForTest file;
  WarmWeights(file, nullptr).join();
  int64_t at = 4096, bytes = 0;
  const auto asked = file.asked();
  for (const auto& [offset, size] : asked) {
    if (offset == 30'000'000) at = offset;
    EXPECT_EQ(offset, at);
    at += size;
    bytes += size;
  }
  EXPECT_EQ(bytes, 23'000'000);
  EXPECT_EQ(asked.size(), 4u);
}

TEST(WarmWeights, PausesWhileSomebodyWaitsForTheDisk) {
  const FileForTest file;
  const auto urgent = std::make_shared<std::atomic<int>>(1);
  std::jthread warming = WarmWeights(file, urgent);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_TRUE(file.asked().empty());
  *urgent = 0;
  warming.join();
  EXPECT_EQ(file.asked().size(), 4u);
  *urgent = 1;
  warming = WarmWeights(file, urgent);
  warming.request_stop();
  warming.join();  // does not wait for it
  EXPECT_EQ(file.asked().size(), 4u);
}

}  // namespace
}  // namespace fathom
