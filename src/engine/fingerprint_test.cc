// What changes a model's fingerprint and what does not.
#include "engine/fingerprint.h"
#include "base/source_dir_for_test.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <set>

namespace fathom {
namespace {

// Tensors in memory, which a test may change.
class MemoryModel final : public ModelFile {
 public:
  MemoryModel() {
    config_.vocab_size = 100;
    config_.hidden_size = 64;
    Add("a.weight", DType::kF32, {10, 10}, 400);
    Add("b.weight", DType::kBF16, {100, 1000}, 200000);
  }
  void Add(const std::string& name, DType dtype, std::vector<int64_t> shape, size_t bytes) {
    data_.emplace_back(bytes, std::byte{1});
    tensors_.push_back({.name = name, .dtype = dtype, .shape = std::move(shape), .data = data_.back().data(),
                        .bytes = static_cast<int64_t>(bytes)});
  }
  ModelFormat format() const override { return ModelFormat::kGguf; }
  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer_source() const override { return source_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view) const override { return nullptr; }
  std::span<const std::string> files() const override { return files_; }
  std::vector<std::pair<std::string, std::string>> Metadata() const override { return {}; }

  ModelConfig config_;
  TokenizerSource source_;
  std::vector<TensorInfo> tensors_;
  std::deque<std::vector<std::byte>> data_;
  std::vector<std::string> files_ = {"x"};
};

TEST(Fingerprint, ChangesWithEverythingThatChangesRows) {
  std::set<std::string> seen;
  const auto fresh = [&](const std::function<void(MemoryModel&)>& change) {
    MemoryModel model;
    change(model);
    const std::string print = ModelFingerprint(model).value_or("");
    EXPECT_EQ(print.size(), 64u);
    return seen.insert(print).second;
  };
  EXPECT_TRUE(fresh([](MemoryModel&) {}));
  EXPECT_FALSE(fresh([](MemoryModel&) {}));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.tensors_[0].name = "c"; }));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.tensors_[0].dtype = DType::kF16; }));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.tensors_[0].shape = {100}; }));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.tensors_.pop_back(); }));
  for (const size_t byte : {0, 17, 399}) {
    EXPECT_TRUE(fresh([&](MemoryModel& m) { m.data_[0][byte] = std::byte{2}; })) << byte;
  }
  for (const size_t byte : {0, 4095, 97952, 102047, 195904, 199999}) {
    EXPECT_TRUE(fresh([&](MemoryModel& m) { m.data_[1][byte] = std::byte{2}; })) << byte;
  }
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.config_.rope.theta = 5e5f; }));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.config_.rope.freq_factors = {1, 2}; }));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.config_.rms_norm_eps = 1e-5f; }));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.config_.moe.num_experts_per_tok = 3; }));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.config_.moe.routed_scaling_factor = 2.5f; }));
  EXPECT_TRUE(fresh([](MemoryModel& m) { m.config_.moe.scoring_func = GatingFunction::kSigmoid; }));
}

TEST(Fingerprint, DoesNotChangeWithNamesAndOrder) {
  MemoryModel plain, other;
  other.config_.name = "renamed";
  other.config_.architecture = "the same by another name";
  other.config_.max_position_embeddings = 9;
  other.files_ = {"elsewhere"};
  std::swap(other.tensors_[0], other.tensors_[1]);
  EXPECT_EQ(*ModelFingerprint(plain), *ModelFingerprint(other));
}

TEST(Fingerprint, OfAFileIsStable) {
  auto file = ModelFile::Open(SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf");
  auto again = ModelFile::Open(SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf");
  auto other = ModelFile::Open(SourceDirForTest() + "/tests/golden/gguf/v2lite-mainline.gguf");
  ASSERT_TRUE(file && again && other);
  EXPECT_EQ(*ModelFingerprint(**file), *ModelFingerprint(**again));
  EXPECT_NE(*ModelFingerprint(**file), *ModelFingerprint(**other));
  const KvLayout layout{DType::kBF16, 3, 40};
  const KvSpace space = SpaceOf(**file, layout).value();
  EXPECT_EQ(space.layout, layout);
  EXPECT_NE(space.rope.find("theta="), std::string::npos);
}

}  // namespace
}  // namespace fathom
