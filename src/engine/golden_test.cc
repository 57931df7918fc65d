// Logits and greedy text against Hugging Face transformers, for every family and file format (tests/golden/hf and
// tests/golden/gguf; the scripts there made them).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/source_dir_for_test.h"
#include "engine/engine.h"
#include "kernels/vec_ops.h"

namespace fathom {
namespace {

const std::string kGolden = SourceDirForTest() + "/tests/golden/";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Expected {
  std::vector<TokenId> prompt, greedy;
  int64_t vocab = 0;
  std::vector<float> logits;         // [prompt, vocab]
  std::vector<float> decode_logits;  // [greedy, vocab]
};

// The goldens' own safetensors file, read without fathom's reader.
Expected ReadExpected(const std::string& name) {
  const std::string bytes = ReadFile(kGolden + "hf/" + name + "/expected.safetensors");
  EXPECT_GT(bytes.size(), 8u) << name;
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  const auto header = nlohmann::json::parse(bytes.substr(8, header_size));
  const char* data = bytes.data() + 8 + header_size;
  const auto read = [&](const char* tensor, auto& out) {
    const auto& offsets = header[tensor]["data_offsets"];
    out.resize((offsets[1].get<size_t>() - offsets[0].get<size_t>()) / 4);
    std::memcpy(out.data(), data + offsets[0].get<size_t>(), out.size() * 4);
  };
  Expected expected;
  read("prompt_ids", expected.prompt);
  read("greedy_ids", expected.greedy);
  read("logits", expected.logits);
  read("decode_logits", expected.decode_logits);
  expected.vocab = header["logits"]["shape"][1];
  return expected;
}

// |a - b| relative to the size of the expected row.
double RelativeError(std::span<const float> actual, std::span<const float> expected) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(double{actual[i]} - expected[i], 2);
    size += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(difference / size);
}

struct Case {
  std::string path;    // below tests/golden
  std::string golden;  // name below tests/golden/hf
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.path; }

class Golden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto engine = Engine::Load(kGolden + GetParam().path, {.threads = 2, .kv_type = KvType::kF32, .prefill_chunk = 64});
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    expected_ = ReadExpected(GetParam().golden);
    ASSERT_EQ(expected_.vocab, engine_->config().vocab_size);
  }
  std::unique_ptr<Session> NewSession() { return std::move(*engine_->NewSession()); }
  /// The median over the prompt's positions of the logits' relative error with this type of rows. (Not the largest: where
  /// a router is near a tie, any rounding may turn it to another expert, and then the logits are others.)
  double MedianErrorWith(KvType type) {
    auto engine = Engine::Load(kGolden + GetParam().path, {.threads = 1, .kv_type = type});
    if (!engine) return NAN;
    auto session = std::move(*(*engine)->NewSession());
    std::vector<float> logits;
    if (!session->EvalAll(expected_.prompt, logits)) return NAN;
    const auto vocab = static_cast<size_t>(expected_.vocab);
    std::vector<double> errors;
    for (size_t i = 0; i < expected_.prompt.size(); ++i)
      errors.push_back(RelativeError({logits.data() + i * vocab, vocab}, {expected_.logits.data() + i * vocab, vocab}));
    std::nth_element(errors.begin(), errors.begin() + std::ssize(errors) / 2, errors.end());
    return errors[errors.size() / 2];
  }

  std::unique_ptr<Engine> engine_;
  Expected expected_;
};

constexpr double kTolerance = 1e-4;

TEST_P(Golden, LogitsAtEveryPosition) {
  auto session = NewSession();
  std::vector<float> logits;
  ASSERT_TRUE(session->EvalAll(expected_.prompt, logits));
  for (size_t i = 0; i < expected_.prompt.size(); ++i) {
    const std::span<const float> row(logits.data() + i * expected_.vocab, expected_.vocab);
    const std::span<const float> want(expected_.logits.data() + i * expected_.vocab, expected_.vocab);
    ASSERT_LE(RelativeError(row, want), kTolerance) << "position " << i;
  }
}

TEST_P(Golden, GreedyContinuation) {
  auto session = NewSession();
  ASSERT_TRUE(session->Eval(expected_.prompt));
  for (size_t i = 0; i < expected_.greedy.size(); ++i) {
    const std::span<const float> want(expected_.decode_logits.data() + i * expected_.vocab, expected_.vocab);
    ASSERT_LE(RelativeError(session->logits(), want), kTolerance) << "step " << i;
    const TokenId token = static_cast<TokenId>(ArgMax(session->logits().data(), expected_.vocab));
    ASSERT_EQ(token, expected_.greedy[i]) << "step " << i;
    ASSERT_TRUE(session->Eval({&token, 1}));
  }
}

TEST_P(Golden, GenerateGivesTheSameTokens) {
  GenerationParams params;
  params.sampling.temperature = 0;
  params.max_tokens = static_cast<int32_t>(expected_.greedy.size());
  params.ignore_eos = true;
  auto session = NewSession();
  auto result = session->Generate(expected_.prompt, params, {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->tokens, expected_.greedy);
  EXPECT_EQ(result->finish_reason, FinishReason::kLength);
}

TEST_P(Golden, PrefillInPiecesEqualsPrefillAtOnce) {
  auto whole = NewSession();
  ASSERT_TRUE(whole->Eval(expected_.prompt));
  for (size_t piece : {1, 7, 39}) {
    auto session = NewSession();
    const std::span<const TokenId> prompt = expected_.prompt;
    for (size_t i = 0; i < prompt.size(); i += piece)
      ASSERT_TRUE(session->Eval(prompt.subspan(i, std::min(piece, prompt.size() - i))));
    ASSERT_LE(RelativeError(session->logits(), whole->logits()), 2e-5) << "pieces of " << piece;
  }
}

TEST_P(Golden, SixteenBitCacheStaysClose) {
  for (KvType type : {KvType::kF16, KvType::kBF16}) {
    auto engine = Engine::Load(kGolden + GetParam().path, {.threads = 1, .kv_type = type});
    ASSERT_TRUE(engine);
    auto session = std::move(*(*engine)->NewSession());
    ASSERT_TRUE(session->Eval(expected_.prompt));
    const std::span<const float> want(expected_.logits.end().base() - expected_.vocab, expected_.vocab);
    // Rounding of keys and values (2^-11, 2^-9), and in a tiny model a router near a tie.
    EXPECT_LE(RelativeError(session->logits(), want), type == KvType::kF16 ? 0.02 : 0.15);
  }
}

// What the formats' errors explain. Rounding a value to bf16 (seven bits of mantissa) errs by 0.0017 of it (rms), to e4m3
// (three bits) by 16 times as much. int8 errs by A/127/sqrt(12) = 0.0023 A where A is its group's largest value, about 2.5
// times the group's rms of 32 or 64 values: 3.5 times as much as bf16. To first order logits err in proportion (measured: 2.1
// to 3.5 times, and 9.5 to 17; less where MLA's rope key stays bf16).
TEST_P(Golden, EightBitCacheErrsAsItsFormatExplains) {
  const double bf16 = MedianErrorWith(KvType::kBF16), int8 = MedianErrorWith(KvType::kInt8),
               fp8 = MedianErrorWith(KvType::kFp8);
  EXPECT_LE(bf16, 0.015);
  EXPECT_LE(int8, 1.25 * 3.5 * bf16);
  EXPECT_LE(fp8, 1.25 * 16 * bf16);
}

INSTANTIATE_TEST_SUITE_P(HuggingFace, Golden,
                         testing::Values(Case{"hf/v2lite", "v2lite"}, Case{"hf/v2", "v2"}, Case{"hf/v3", "v3"},
                                         Case{"hf/v3_negbias", "v3_negbias"}, Case{"hf/kimi", "kimi"},
                                         Case{"hf/moonlight", "moonlight"}, Case{"hf/glm_flash", "glm_flash"},
                                         Case{"hf/llama", "llama"}, Case{"hf/llama_tied", "llama_tied"},
                                         Case{"hf/qwen2", "qwen2"}, Case{"hf/v3_bf16", "v3_bf16"},
                                         Case{"hf/v3_fp8", "v3_fp8"}));

INSTANTIATE_TEST_SUITE_P(Gguf, Golden,
                         testing::Values(Case{"gguf/v3-mainline.gguf", "v3"}, Case{"gguf/v3-legacy.gguf", "v3"},
                                         Case{"gguf/v3-split-00002-of-00003.gguf", "v3"},
                                         Case{"gguf/v2lite-mainline.gguf", "v2lite"},
                                         Case{"gguf/llama.gguf", "llama"}, Case{"gguf/qwen2.gguf", "qwen2"},
                                         Case{"gguf/qwen2-version2.gguf", "qwen2"}));

}  // namespace
}  // namespace fathom
