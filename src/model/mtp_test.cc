// The MTP layer of fathom-nano against the same weights in f32 in PyTorch (tests/golden/mtp/make.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/source_dir_for_test.h"
#include "model/model.h"

namespace fathom {
namespace {

class MtpTest : public testing::Test {
 protected:
  void SetUp() override {
    auto file = ModelFile::Open(SourceDirForTest() + "/models/fathom-nano/fathom-nano-q8_0.gguf");
    ASSERT_TRUE(file) << file.error().message;
    file_ = std::move(*file);
    auto model = Model::Load(*file_, pool_);
    ASSERT_TRUE(model) << model.error().message;
    model_ = std::move(*model);
    EXPECT_FALSE(model_->has_mtp());
    const Status loaded = model_->LoadMtp(*file_);
    ASSERT_TRUE(loaded) << loaded.error().message;
    size_ = model_->config().hidden_size;
    vocab_ = model_->config().vocab_size;
    std::ifstream json(SourceDirForTest() + "/tests/golden/mtp/nano.json");
    golden_ = nlohmann::json::parse(json);
    ids_ = golden_["ids"].get<std::vector<int32_t>>();
  }
  // States of all tokens.
  std::vector<float> Hidden() {
    KvPool pool(model_->kv_layout(DType::kF32));
    KvSequence kv(pool);
    std::vector<float> hidden(ids_.size() * static_cast<size_t>(size_)), logits(static_cast<size_t>(vocab_));
    const Segment segment{.kv = &kv, .tokens = ids_, .logits = 1, .hidden = hidden.data(),
                          .hidden_rows = static_cast<int64_t>(ids_.size())};
    EXPECT_TRUE(model_->Forward({&segment, 1}, logits.data()));
    return hidden;
  }
  // Logits after each of the tokens from the second one, `piece` at a time.
  std::vector<std::vector<float>> Run(const std::vector<float>& hidden, size_t piece) {
    KvPool pool(model_->mtp_kv_layout(DType::kF32));
    KvSequence kv(pool);
    std::vector<std::vector<float>> out;
    std::vector<float> state(static_cast<size_t>(size_));
    for (size_t begin = 0; begin + 1 < ids_.size(); begin += piece) {
      const size_t count = std::min(piece, ids_.size() - 1 - begin);
      const MtpSegment segment{.kv = &kv, .tokens = std::span(ids_).subspan(begin + 1, count),
                               .hidden = hidden.data() + begin * static_cast<size_t>(size_)};
      out.emplace_back(static_cast<size_t>(vocab_));
      EXPECT_TRUE(model_->Mtp({&segment, 1}, state.data(), out.back().data()));
    }
    EXPECT_EQ(kv.length(), static_cast<int64_t>(ids_.size()) - 1);
    return out;
  }

  ThreadPool pool_{2};
  std::unique_ptr<ModelFile> file_;
  std::unique_ptr<Model> model_;
  nlohmann::json golden_;
  std::vector<int32_t> ids_;
  int64_t size_ = 0, vocab_ = 0;
};

TEST_F(MtpTest, EqualsTheReference) {
  const auto logits = Run(Hidden(), 1);
  const auto best = golden_["mtp_argmax"].get<std::vector<int32_t>>();
  ASSERT_EQ(logits.size(), best.size());
  size_t same = 0;
  for (size_t i = 0; i < best.size(); ++i) {
    same += std::max_element(logits[i].begin(), logits[i].end()) - logits[i].begin() == best[i];
  }
  // Activations are rounded to 8 bits here, and a text that the model finds hard has near ties.
  EXPECT_GE(same * 100, best.size() * 90) << same << " of " << best.size();
  for (const auto& [name, row] : {std::pair{"mtp_last", logits.size() - 1}, {"mtp_mid", ids_.size() / 2}}) {
    const auto expected = golden_[name].get<std::vector<float>>();
    double error = 0, norm = 0;
    for (size_t v = 0; v < expected.size(); ++v) {
      error += std::pow(logits[row][v] - expected[v], 2);
      norm += std::pow(expected[v], 2);
    }
    EXPECT_LT(std::sqrt(error / norm), 0.03) << name;
  }
}

TEST_F(MtpTest, PiecesGiveTheSameBits) {
  const std::vector<float> hidden = Hidden();
  const auto one = Run(hidden, 1);
  for (const size_t piece : {size_t{2}, size_t{7}, size_t{64}, size_t{1000}}) {
    const auto many = Run(hidden, piece);
    for (size_t i = 0; i < many.size(); ++i) {
      const size_t row = std::min(i * piece + piece, one.size()) - 1;
      EXPECT_EQ(std::memcmp(many[i].data(), one[row].data(), static_cast<size_t>(vocab_) * 4), 0) << piece << " " << row;
    }
  }
}

TEST(Mtp, AFileWithoutTheLayerSaysSo) {
  ThreadPool pool(1);
  const auto file = std::move(*ModelFile::Open(SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf"));
  const auto model = std::move(*Model::Load(*file, pool));
  const Status loaded = model->LoadMtp(*file);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace fathom
