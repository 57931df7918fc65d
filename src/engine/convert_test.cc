#include "engine/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "base/source_dir_for_test.h"
#include "engine/engine.h"
#include "format/gguf.h"
#include "format/model_file.h"
#include "format/safetensors_writer.h"
#include "io/fault_env.h"
#include "kernels/dequant.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

const std::string kGolden = SourceDirForTest() + "/tests/golden/";

class ConvertTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "fathom_convert_XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { fs::remove_all(dir_); }

  ConvertOptions Options(const std::string& source, const std::string& type, const std::string& name = "out.gguf") {
    ConvertOptions options;
    options.source = source;
    options.output = dir_ + "/" + name;
    options.type = type;
    options.threads = 2;
    options.reserve_bytes = 0;
    return options;
  }
  // The model written, opened.
  std::unique_ptr<ModelFile> Convert(const ConvertOptions& options) {
    const auto summary = ConvertModel(options);
    EXPECT_TRUE(summary) << summary.error().message;
    if (!summary) return nullptr;
    EXPECT_EQ(summary->file_bytes, static_cast<int64_t>(fs::file_size(options.output)));
    auto file = ModelFile::Open(options.output);
    EXPECT_TRUE(file) << file.error().message;
    return file ? std::move(*file) : nullptr;
  }
  std::string dir_;
};

std::vector<float> Logits(const std::string& path, const std::vector<TokenId>& prompt) {
  auto engine = Engine::Load(path, {.threads = 2, .kv_type = KvType::kF32});
  EXPECT_TRUE(engine) << engine.error().message;
  std::vector<float> logits;
  if (!engine) return logits;
  auto session = std::move(*(*engine)->NewSession());
  EXPECT_TRUE(session->EvalAll(prompt, logits));
  return logits;
}

double RelativeError(std::span<const float> actual, std::span<const float> expected) {
  if (actual.size() != expected.size() || expected.empty()) return INFINITY;
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(double{actual[i]} - expected[i], 2);
    size += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(difference / size);
}

const std::vector<TokenId>& Prompt() {
  static const std::vector<TokenId> prompt = {0,  17, 204, 99, 31, 250, 44, 3,  128, 77, 12, 190,
                                              55, 61, 233, 8,  19, 142, 87, 36, 101, 6,  271, 90};
  return prompt;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// ---- Hugging Face directories made for a test ----

using Tensors = std::map<std::string, std::pair<std::vector<int64_t>, std::vector<float>>>;

Tensors ReadF32(const std::string& directory) {
  Tensors out;
  auto file = ModelFile::Open(directory);
  EXPECT_TRUE(file);
  for (const TensorInfo& info : (*file)->tensors()) {
    EXPECT_EQ(info.dtype, DType::kF32);
    auto& [shape, values] = out[info.name];
    shape = info.shape;
    values.resize(static_cast<size_t>(info.bytes) / 4);
    std::memcpy(values.data(), info.data, static_cast<size_t>(info.bytes));
  }
  return out;
}

void WriteDirectory(const std::string& directory, const Tensors& tensors, const nlohmann::json& config) {
  fs::create_directories(directory);
  auto writer = std::move(*SafetensorsWriter::Create(directory + "/model.safetensors"));
  for (const auto& [name, tensor] : tensors) writer->Declare(name, DType::kF32, tensor.first);
  ASSERT_TRUE(writer->WriteHeader());
  for (const auto& [name, tensor] : tensors) ASSERT_TRUE(writer->Append(std::as_bytes(std::span(tensor.second))));
  ASSERT_TRUE(writer->Finish());
  std::ofstream(directory + "/config.json") << config;
}

nlohmann::json ConfigOf(const std::string& golden) {
  return nlohmann::json::parse(ReadFile(kGolden + "hf/" + golden + "/config.json"));
}

// V3's golden with an MTP layer behind: a copy of the last layer and made-up nextn tensors.
void AddMtp(Tensors& tensors, nlohmann::json& config, bool own_embedding) {
  const int layers = config["num_hidden_layers"];
  const int64_t hidden = config["hidden_size"], vocab = config["vocab_size"];
  const std::string last = fmt::format("model.layers.{}.", layers - 1), mtp = fmt::format("model.layers.{}.", layers);
  Tensors copies;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(last)) copies[mtp + name.substr(last.size())] = tensor;
  }
  tensors.merge(copies);
  const auto ramp = [](int64_t n) {
    std::vector<float> values(static_cast<size_t>(n));
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 97) / 64.0f;
    return values;
  };
  tensors[mtp + "eh_proj.weight"] = {{hidden, 2 * hidden}, ramp(2 * hidden * hidden)};
  for (const char* name : {"enorm", "hnorm", "shared_head.norm"})
    tensors[mtp + name + ".weight"] = {{hidden}, ramp(hidden)};
  tensors[mtp + "embed_tokens.weight"] = tensors["model.embed_tokens.weight"];
  tensors[mtp + "shared_head.head.weight"] =
      own_embedding ? std::pair{std::vector<int64_t>{vocab, hidden}, ramp(vocab * hidden)} : tensors["lm_head.weight"];
  config["num_nextn_predict_layers"] = 1;
}

// ---- Tests ----

class ConvertGolden : public ConvertTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(ConvertGolden, F32GivesTheLogitsOfTheDirectory) {
  const std::string source = kGolden + "hf/" + GetParam();
  const auto file = Convert(Options(source, "f32"));
  ASSERT_TRUE(file);
  EXPECT_LE(RelativeError(Logits(dir_ + "/out.gguf", Prompt()), Logits(source, Prompt())), 2e-6);
}

TEST_P(ConvertGolden, Q8HoldsTheSameWeights) {
  const std::string source = kGolden + "hf/" + GetParam();
  const auto exact = Convert(Options(source, "f32", "exact.gguf"));
  const auto q8 = Convert(Options(source, "q8_0"));
  ASSERT_TRUE(exact && q8);
  int quantised = 0;
  for (const TensorInfo& want : exact->tensors()) {
    const TensorInfo* got = q8->Find(want.name);
    ASSERT_NE(got, nullptr);
    const auto count = want.bytes / 4;
    std::vector<float> values(static_cast<size_t>(count));
    DequantizeRow(got->dtype, got->data, count, values.data());
    const std::span<const float> original(reinterpret_cast<const float*>(want.data), values.size());
    EXPECT_LE(RelativeError(values, original), got->dtype == DType::kF32 ? 0 : 0.007) << want.name;
    quantised += got->dtype == DType::kQ8_0;
  }
  EXPECT_GE(quantised, 15);
}

INSTANTIATE_TEST_SUITE_P(Models, ConvertGolden,
                         ::testing::Values("v2lite", "v2", "v3", "v3_negbias", "kimi", "moonlight", "glm_flash", "llama",
                                           "llama_tied", "qwen2", "v3_bf16", "v3_fp8"));

// tests/golden/gguf was written by llama.cpp's Python package from the same weights.
TEST_F(ConvertTest, TheSameTensorsAsLlamaCppsPackageWrites) {
  for (const auto& [directory, golden] : {std::pair{"v3", "v3-mainline.gguf"}, {"llama", "llama.gguf"},
                                          {"qwen2", "qwen2.gguf"}, {"v2lite", "v2lite-mainline.gguf"}}) {
    SCOPED_TRACE(golden);
    const auto ours = Convert(Options(kGolden + "hf/" + directory, "f32", golden));
    const auto theirs = ModelFile::Open(kGolden + "gguf/" + golden);
    ASSERT_TRUE(ours && theirs);
    EXPECT_EQ(ours->tensors().size(), (*theirs)->tensors().size());
    for (const TensorInfo& want : (*theirs)->tensors()) {
      const TensorInfo* got = ours->Find(want.name);
      ASSERT_NE(got, nullptr) << want.name;
      EXPECT_EQ(got->shape, want.shape) << want.name;
      ASSERT_EQ(want.dtype, DType::kF32) << want.name;
      ASSERT_EQ(got->bytes, want.bytes);
      if (want.name == "rope_freqs.weight") continue;  // computed: may differ in the last bit
      EXPECT_EQ(std::memcmp(got->data, want.data, static_cast<size_t>(want.bytes)), 0) << want.name;
    }
    // And what a reader makes of the metadata.
    const auto& a = ours->config();
    const auto& b = (*theirs)->config();
    EXPECT_EQ(a.architecture, b.architecture);
    EXPECT_EQ(a.rope.layout, b.rope.layout);
    EXPECT_EQ(a.rope.scaling, b.rope.scaling);
    EXPECT_FLOAT_EQ(a.rope.mscale_all_dim, b.rope.mscale_all_dim);
    EXPECT_EQ(a.moe.routed_scaling_factor, b.moe.routed_scaling_factor);
    EXPECT_EQ(a.moe.norm_topk_prob, b.moe.norm_topk_prob);
    EXPECT_EQ(a.moe.n_group, b.moe.n_group);
    EXPECT_EQ(a.max_position_embeddings, b.max_position_embeddings);
    const auto &s = ours->tokenizer_source(), &t = (*theirs)->tokenizer_source();
    if (directory != std::string("v3")) continue;  // the others' JSON says less than the GGUF, or is not there
    EXPECT_EQ(s.ggml_pre, t.ggml_pre);
    EXPECT_EQ(s.tokens, t.tokens);
    EXPECT_EQ(s.merges, t.merges);
    EXPECT_EQ(s.bos_id, t.bos_id);
    EXPECT_EQ(s.eos_id, t.eos_id);
  }
}

TEST_F(ConvertTest, MtpLayersBecomeNextnTensors) {
  Tensors tensors = ReadF32(kGolden + "hf/v3");
  nlohmann::json config = ConfigOf("v3");
  AddMtp(tensors, config, /*own_embedding=*/false);
  WriteDirectory(dir_ + "/mtp", tensors, config);
  const auto file = Convert(Options(dir_ + "/mtp", "f32"));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->config().num_hidden_layers, 3);
  EXPECT_EQ(file->config().num_nextn_predict_layers, 1);
  const TensorInfo* eh = file->Find("blk.3.nextn.eh_proj.weight");
  ASSERT_NE(eh, nullptr);
  EXPECT_EQ(std::memcmp(eh->data, tensors["model.layers.3.eh_proj.weight"].second.data(), eh->bytes), 0);
  for (const char* name : {"enorm", "hnorm", "shared_head_norm"})
    EXPECT_NE(file->Find(fmt::format("blk.3.nextn.{}.weight", name)), nullptr) << name;
  for (const char* name : {"attn_k_b.weight", "ffn_gate_exps.weight", "exp_probs_b.bias", "ffn_norm.weight"}) {
    const TensorInfo *mtp = file->Find(fmt::format("blk.3.{}", name)), *last = file->Find(fmt::format("blk.2.{}", name));
    ASSERT_TRUE(mtp != nullptr && last != nullptr) << name;
    EXPECT_EQ(std::memcmp(mtp->data, last->data, static_cast<size_t>(last->bytes)), 0) << name;
  }
  // Copies of the model's own are not repeated.
  EXPECT_EQ(file->Find("blk.3.nextn.embed_tokens.weight"), nullptr);
  EXPECT_EQ(file->Find("blk.3.nextn.shared_head_head.weight"), nullptr);
  EXPECT_LE(RelativeError(Logits(dir_ + "/out.gguf", Prompt()), Logits(kGolden + "hf/v3", Prompt())), 2e-6);

  ConvertOptions without = Options(dir_ + "/mtp", "f32", "without.gguf");
  without.mtp = false;
  const auto plain = Convert(without);
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->config().num_nextn_predict_layers, 0);
  EXPECT_EQ(plain->config().num_hidden_layers, 3);
  EXPECT_EQ(plain->Find("blk.3.attn_norm.weight"), nullptr);

  // From GGUF to GGUF, with and without.
  const auto again = Convert(Options(dir_ + "/out.gguf", "q8_0", "again.gguf"));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->config().num_nextn_predict_layers, 1);
  EXPECT_NE(again->Find("blk.3.nextn.eh_proj.weight"), nullptr);
  ConvertOptions dropped = Options(dir_ + "/out.gguf", "f32", "dropped.gguf");
  dropped.mtp = false;
  const auto file2 = Convert(dropped);
  ASSERT_TRUE(file2);
  EXPECT_EQ(file2->config().num_nextn_predict_layers, 0);
  EXPECT_EQ(file2->config().num_hidden_layers, 3);
  EXPECT_EQ(file2->tensors().size(), plain->tensors().size());
}

TEST_F(ConvertTest, MtpLayersWithAHeadOfTheirOwnKeepIt) {
  Tensors tensors = ReadF32(kGolden + "hf/v3");
  nlohmann::json config = ConfigOf("v3");
  AddMtp(tensors, config, /*own_embedding=*/true);
  WriteDirectory(dir_ + "/mtp", tensors, config);
  const auto file = Convert(Options(dir_ + "/mtp", "f32"));
  ASSERT_TRUE(file);
  const TensorInfo* head = file->Find("blk.3.nextn.shared_head_head.weight");
  ASSERT_NE(head, nullptr);
  EXPECT_EQ(std::memcmp(head->data, tensors["model.layers.3.shared_head.head.weight"].second.data(),
                        static_cast<size_t>(head->bytes)), 0);
}

TEST_F(ConvertTest, MtpLayersThatTheFilesLackAreSaidToBeLeftOut) {
  nlohmann::json config = ConfigOf("v3");
  config["num_nextn_predict_layers"] = 1;
  WriteDirectory(dir_ + "/lacks", ReadF32(kGolden + "hf/v3"), config);
  const auto summary = ConvertModel(Options(dir_ + "/lacks", "f32"));
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_FALSE(summary->mtp);
  EXPECT_THAT(summary->notes, ::testing::Contains(HasSubstr("no weights of them")));
  EXPECT_EQ((*ModelFile::Open(dir_ + "/out.gguf"))->config().num_nextn_predict_layers, 0);
}

TEST_F(ConvertTest, ADenseMlaModelIsRunAsOne) {
  // V3's golden with its first, dense, layer thrice.
  Tensors tensors = ReadF32(kGolden + "hf/v3"), dense;
  for (const auto& [name, tensor] : tensors) {
    if (!name.starts_with("model.layers.")) dense[name] = tensor;
    if (!name.starts_with("model.layers.0.")) continue;
    for (const char* layer : {"0", "1", "2"}) dense["model.layers." + std::string(layer) + name.substr(14)] = tensor;
  }
  nlohmann::json config = ConfigOf("v3");
  config["first_k_dense_replace"] = 3;
  WriteDirectory(dir_ + "/dense", dense, config);
  const auto file = Convert(Options(dir_ + "/dense", "f32"));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->config().moe.n_routed_experts, 0);
  EXPECT_LE(RelativeError(Logits(dir_ + "/out.gguf", Prompt()), Logits(dir_ + "/dense", Prompt())), 2e-6);
}

TEST_F(ConvertTest, RowsRotatedInHalvesAreInterleaved) {
  // The same function, stored for half-split rotation: pairs (2i, 2i + 1) become (i, i + d/2).
  Tensors tensors = ReadF32(kGolden + "hf/v3");
  nlohmann::json config = ConfigOf("v3");
  const int64_t nope = config["qk_nope_head_dim"], rope = config["qk_rope_head_dim"], rank = config["kv_lora_rank"];
  const auto to_halves = [&](std::vector<float>& values, int64_t cols, int64_t first) {
    const std::vector<float> old = values;
    for (int64_t i = 0; i < rope; ++i) {
      const int64_t to = first + i % 2 * (rope / 2) + i / 2;
      std::copy_n(old.begin() + (first + i) * cols, cols, values.begin() + to * cols);
    }
  };
  for (auto& [name, tensor] : tensors) {
    auto& [shape, values] = tensor;
    if (name.ends_with("q_b_proj.weight")) {
      for (int64_t head = 0; head < shape[0] / (nope + rope); ++head)
        to_halves(values, shape[1], head * (nope + rope) + nope);
    } else if (name.ends_with("kv_a_proj_with_mqa.weight")) {
      to_halves(values, shape[1], rank);
    }
  }
  config["rope_interleave"] = false;
  WriteDirectory(dir_ + "/halves", tensors, config);
  const auto want = Logits(kGolden + "hf/v3", Prompt());
  ASSERT_LE(RelativeError(Logits(dir_ + "/halves", Prompt()), want), 1e-5);
  ASSERT_TRUE(Convert(Options(dir_ + "/halves", "f32")));
  EXPECT_LE(RelativeError(Logits(dir_ + "/out.gguf", Prompt()), want), 1e-5);
}

TEST_F(ConvertTest, FromGgufEverythingButTheTypesStays) {
  for (const char* name : {"v3-mainline.gguf", "v3-legacy.gguf", "v3-split-00002-of-00003.gguf", "qwen2-version2.gguf"}) {
    SCOPED_TRACE(name);
    const std::string source = kGolden + "gguf/" + name;
    const auto copy = Convert(Options(source, "f32", "copy.gguf"));
    fs::rename(dir_ + "/copy.gguf", dir_ + "/copy.old");
    const auto original = ModelFile::Open(source);
    ASSERT_TRUE(copy && original);
    std::map<std::string, std::string> metadata;
    for (const auto& [key, value] : copy->Metadata()) metadata[key] = value;
    for (const auto& [key, value] : (*original)->Metadata()) {
      if (key.starts_with("split.") || key == "general.alignment" || key == "general.file_type") continue;
      EXPECT_EQ(metadata[key], value) << key;
    }
    EXPECT_EQ(metadata["general.file_type"], "0");
    ASSERT_EQ(copy->tensors().size(), (*original)->tensors().size());
    for (const TensorInfo& want : (*original)->tensors()) {
      const TensorInfo* got = copy->Find(want.name);
      ASSERT_NE(got, nullptr);
      EXPECT_EQ(std::memcmp(got->data, want.data, static_cast<size_t>(want.bytes)), 0) << want.name;
    }
    EXPECT_EQ(copy->tokenizer_source().merges, (*original)->tokenizer_source().merges);
  }
}

TEST_F(ConvertTest, ThreadsAndBatchesChangeNoByte) {
  ConvertOptions options = Options(kGolden + "hf/v3", "q4_k_m", "one.gguf");
  options.threads = 1;
  ASSERT_TRUE(Convert(options));
  ConvertOptions more = Options(kGolden + "hf/v3", "q4_k_m", "three.gguf");
  more.threads = 3;
  ASSERT_TRUE(Convert(more));
  EXPECT_EQ(ReadFile(options.output), ReadFile(more.output));
}

TEST_F(ConvertTest, TheSummarySaysWhatFellBack) {
  const auto plan = PlanConvert(Options(kGolden + "hf/v3", "q4_k_m"));
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->type, "q4_k_m");
  EXPECT_EQ(plan->file_bytes, 0);
  EXPECT_FALSE(fs::exists(dir_ + "/out.gguf"));
  std::map<std::string, ConvertTensor> by_name;
  int64_t bytes = 0;
  for (const auto& tensor : plan->tensors) by_name[tensor.name] = tensor, bytes += tensor.bytes;
  EXPECT_EQ(bytes, plan->tensor_bytes);
  EXPECT_TRUE(by_name.at("blk.1.ffn_gate_exps.weight").fell_back);  // rows of 64
  EXPECT_EQ(by_name.at("blk.1.ffn_gate_exps.weight").to, DType::kQ5_0);
  EXPECT_EQ(by_name.at("blk.0.ffn_down.weight").to, DType::kF16);  // rows of 112
  EXPECT_FALSE(by_name.at("blk.1.ffn_gate_inp.weight").fell_back);
  EXPECT_EQ(by_name.at("blk.1.ffn_gate_inp.weight").to, DType::kF32);
  EXPECT_THAT(plan->notes, ::testing::Contains(HasSubstr("ffn_down.weight became f16")));
  const auto f32 = PlanConvert(Options(kGolden + "hf/v3", "f32"));
  ASSERT_TRUE(f32);
  EXPECT_THAT(f32->notes, ::testing::IsEmpty());
}

TEST_F(ConvertTest, RequantisingIsSaid) {
  ASSERT_TRUE(Convert(Options(kGolden + "hf/v3", "q8_0")));
  const auto plan = PlanConvert(Options(dir_ + "/out.gguf", "q4_0"));
  ASSERT_TRUE(plan);
  EXPECT_THAT(plan->notes, ::testing::Contains(HasSubstr("quantised already (q8_0)")));
}

TEST_F(ConvertTest, BrokenSourcesAreNamed) {
  const nlohmann::json config = ConfigOf("v3");
  const Tensors good = ReadF32(kGolden + "hf/v3");
  const auto error = [&](const Tensors& tensors) {
    WriteDirectory(dir_ + "/broken", tensors, config);
    const auto result = ConvertModel(Options(dir_ + "/broken", "q8_0"));
    EXPECT_FALSE(result);
    EXPECT_FALSE(fs::exists(dir_ + "/out.gguf"));
    // Only the directory is there: no temporary file stays.
    EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1);
    return result ? "" : result.error().message;
  };
  Tensors tensors = good;
  tensors.erase("model.layers.2.mlp.experts.7.up_proj.weight");
  EXPECT_THAT(error(tensors), HasSubstr("model.layers.2.mlp.experts.7.up_proj.weight is missing"));
  tensors = good;
  tensors["model.layers.1.self_attn.kv_b_proj.weight"].first = {64, 256};
  EXPECT_THAT(error(tensors), HasSubstr("kv_b_proj.weight has shape [64, 256], the configuration asks for [256, 64]"));
  for (const float value : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    tensors = good;
    tensors["model.layers.1.self_attn.kv_b_proj.weight"].second[5] = value;
    EXPECT_THAT(error(tensors), HasSubstr("blk.1.attn_k_b.weight: a value is NaN or infinite"));
  }
}

TEST_F(ConvertTest, WrongWordsAndFullDisks) {
  EXPECT_EQ(ConvertModel(Options(kGolden + "hf/v3", "q7")).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ConvertModel(Options(dir_ + "/none", "q8_0")).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ConvertModel(Options(kGolden + "hf/v3", "f32", "x-00001-of-00002.gguf")).error().code,
            ErrorCode::kInvalidArgument);
  ConvertOptions options = Options(kGolden + "gguf/v3-mainline.gguf", "q8_0");
  options.pre_tokenizer = "gpt-2";
  EXPECT_EQ(ConvertModel(options).error().code, ErrorCode::kInvalidArgument);

  options = Options(kGolden + "hf/v3", "f32");
  options.reserve_bytes = int64_t{1} << 60;
  EXPECT_EQ(ConvertModel(options).error().code, ErrorCode::kResource);
  options.reserve_bytes = 0;
  options.progress = [](int64_t, int64_t) { return false; };
  EXPECT_EQ(ConvertModel(options).error().code, ErrorCode::kCancelled);
  options.progress = {};
  FaultEnv env;
  env.faults.fail_write_after = 100000;
  EXPECT_EQ(ConvertModel(options, env).error().code, ErrorCode::kResource);
  EXPECT_TRUE(fs::is_empty(dir_));

  std::ofstream(options.output) << "precious";
  const auto refused = ConvertModel(options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--force"));
  EXPECT_EQ(ReadFile(options.output), "precious");
  options.overwrite = true;
  EXPECT_TRUE(ConvertModel(options));
}

}  // namespace
}  // namespace fathom
