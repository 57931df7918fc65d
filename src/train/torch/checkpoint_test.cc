#include "train/torch/checkpoint.h"

#include <ATen/core/grad_mode.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "format/model_file.h"
#include "format/safetensors_writer.h"
#include "io/env.h"
#include "train/torch/tiny_model_for_test.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() : optimizer_(tiny_.model.parameters(), {}, at::kFloat) {
    std::string name = (fs::temp_directory_path() / "fathom-checkpoint-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    // Moments that are not zero, and biases too.
    at::manual_seed(1);
    for (auto& [key, value] : optimizer_.State()) value.normal_();
    for (Parameter& parameter : tiny_.model.parameters()) {
      if (parameter.kind == ParameterKind::kBias) parameter.value.normal_();
    }
    optimizer_.set_steps(7);
  }
  ~CheckpointTest() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }

  Result<CheckpointInfo> Save(int64_t step, int keep = 9) {
    return SaveCheckpoint(folder_, step, tiny_.model, optimizer_, {{"note", "an état"}}, {}, keep);
  }
  /// Saved, or the test ends.
  CheckpointInfo Saved(int64_t step, int keep = 9) {
    auto saved = Save(step, keep);
    if (!saved) throw std::runtime_error(saved.error().message);
    return *saved;
  }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_)) names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }

  std::string folder_;
  TinyModel tiny_;
  Optimizer optimizer_;
};

void Flip(const std::string& path, int64_t where) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(where);
  const char byte = static_cast<char>(file.get());
  file.seekp(where);
  file.put(static_cast<char>(byte ^ 0x10));
  ASSERT_TRUE(file.good()) << path;
}

TEST_F(CheckpointTest, GivesBackEveryBit) {
  const CheckpointInfo saved = Saved(42);
  EXPECT_EQ(saved.step, 42);
  EXPECT_EQ(fs::path(saved.path).filename(), "step-00000042");
  std::vector<std::string> passed_over;
  const auto found = NewestCheckpoint(folder_, passed_over);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, saved.path);
  EXPECT_TRUE(passed_over.empty());

  TinyModel other(TinyConfig(), at::kFloat, {}, false, 99);
  Optimizer optimizer(other.model.parameters(), {}, at::kFloat);
  ASSERT_FALSE(at::equal(other.Find("lm_head.weight").value, tiny_.Find("lm_head.weight").value));
  const auto state = LoadCheckpoint(*found, other.model, optimizer);
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(*state, (nlohmann::json{{"note", "an état"}}));
  EXPECT_EQ(optimizer.steps(), 7);
  ASSERT_EQ(other.model.parameters().size(), tiny_.model.parameters().size());
  for (size_t i = 0; i < tiny_.model.parameters().size(); ++i) {
    const Parameter &a = tiny_.model.parameters()[i], &b = other.model.parameters()[i];
    EXPECT_TRUE(at::equal(a.value, b.value)) << a.name;
    EXPECT_EQ(b.value.requires_grad(), b.kind != ParameterKind::kBias) << b.name;
  }
  const auto mine = optimizer_.State(), theirs = optimizer.State();
  ASSERT_EQ(mine.size(), theirs.size());
  for (size_t i = 0; i < mine.size(); ++i) EXPECT_TRUE(at::equal(mine[i].second, theirs[i].second)) << mine[i].first;
}

TEST_F(CheckpointTest, DamagedOnesArePassedOverByName) {
  const CheckpointInfo good = Saved(1);
  const auto expect = [&](const std::string& file, auto damage) {
    SCOPED_TRACE(file);
    const CheckpointInfo bad = Saved(2);
    damage(JoinPath(bad.path, file));
    std::vector<std::string> passed_over;
    const auto found = NewestCheckpoint(folder_, passed_over);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->path, good.path);
    ASSERT_EQ(passed_over.size(), 1u);
    EXPECT_THAT(passed_over[0], HasSubstr(file));
    EXPECT_THAT(passed_over[0], HasSubstr("step-00000002"));
    fs::remove_all(bad.path);
  };
  for (const std::string file : {"model.safetensors", "optimizer.safetensors", "config.json", "state.json"}) {
    expect(file, [](const std::string& path) { Flip(path, static_cast<int64_t>(fs::file_size(path)) - 9); });
    expect(file, [](const std::string& path) { fs::resize_file(path, fs::file_size(path) / 2); });
    expect(file, [](const std::string& path) { fs::resize_file(path, 0); });
    expect(file, [](const std::string& path) { fs::remove(path); });
  }
  // State that parses and is something else.
  for (const char* text : {"[]", "{}", "null", R"({"files": [], "trainer": 1, "version": 2})",
                           R"({"files": {}, "trainer": {}, "version": "2"})",
                           R"({"files": {}, "trainer": {}, "version": 1e300})"}) {
    SCOPED_TRACE(text);
    expect("state.json", [text](const std::string& path) { std::ofstream(path) << text; });
  }
  // Tools see what was meant: a checkpoint of a later version is not damaged, and says so.
  expect("state.json", [](const std::string& path) {
    std::ofstream(path) << R"({"files": {}, "trainer": {}, "version": 77})";
  });
}

TEST_F(CheckpointTest, LeftoversAndStrangersAreIgnored) {
  std::vector<std::string> passed_over;
  EXPECT_FALSE(NewestCheckpoint(folder_, passed_over));
  EXPECT_FALSE(NewestCheckpoint(folder_ + "/absent", passed_over));
  fs::create_directories(folder_ + "/.writing-step-00000009");
  fs::create_directories(folder_ + "/step-");
  fs::create_directories(folder_ + "/step-12x");
  fs::create_directories(folder_ + "/step-99999999999999999999");
  std::ofstream(folder_ + "/notes.txt") << "mine";
  EXPECT_FALSE(NewestCheckpoint(folder_, passed_over));
  EXPECT_TRUE(passed_over.empty());
  const CheckpointInfo saved = Saved(9);  // in the leftover's place
  const auto found = NewestCheckpoint(folder_, passed_over);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, saved.path);
  EXPECT_FALSE(fs::exists(folder_ + "/.writing-step-00000009"));
  EXPECT_TRUE(fs::exists(folder_ + "/notes.txt"));
}

TEST_F(CheckpointTest, KeepsTheNewest) {
  for (const int64_t step : {3, 1, 20, 100}) Saved(step, 2);
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-00000020", "step-00000100"}));
  Saved(101, 0);  // one at least
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-00000101"}));
}

TEST_F(CheckpointTest, SavingTheSameStepAgainReplacesIt) {
  Saved(5);
  {
    at::NoGradGuard no_grad;
    tiny_.Find("model.norm.weight").value.fill_(2.0);
  }
  Saved(5);
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-00000005"}));
  TinyModel other;
  Optimizer optimizer(other.model.parameters(), {}, at::kFloat);
  ASSERT_TRUE(LoadCheckpoint({folder_ + "/step-00000005", 5}, other.model, optimizer));
  EXPECT_EQ(other.Find("model.norm.weight").value[0].item<float>(), 2.0f);
}

TEST_F(CheckpointTest, FailedWritesLeaveEarlierOnes) {
  const CheckpointInfo good = Saved(1);
  // A file where the folder should be: works for root too, who may write anywhere.
  std::ofstream(folder_ + "/blocked") << "a file";
  const auto refused = SaveCheckpoint(folder_ + "/blocked", 2, tiny_.model, optimizer_, {}, {}, 1);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("blocked"));
  // A tokenizer that cannot be read, after the model has been written already.
  fs::create_directories(folder_ + "/tokenizer.json");
  const auto half = SaveCheckpoint(folder_, 2, tiny_.model, optimizer_, {},
                                   {.tokenizer_json = folder_ + "/tokenizer.json"}, 1);
  ASSERT_FALSE(half);
  EXPECT_THAT(half.error().message, HasSubstr("earlier ones are untouched"));
  std::vector<std::string> passed_over;
  const auto found = NewestCheckpoint(folder_, passed_over);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->path, good.path);
  EXPECT_FALSE(fs::exists(folder_ + "/.writing-step-00000002"));
}

TEST_F(CheckpointTest, ValuesThatAreNoNumbersAreRefused) {
  const CheckpointInfo good = Saved(1);
  {
    at::NoGradGuard no_grad;
    tiny_.Find("model.layers.1.mlp.experts.down_proj.weight").value[3][2][1] = std::nanf("");
  }
  const auto refused = Save(2, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInternal);
  EXPECT_THAT(refused.error().message, HasSubstr("model.layers.1.mlp.experts.3.down_proj.weight"));
  EXPECT_EQ(Names(), (std::vector<std::string>{"step-00000001"}));
}

TEST_F(CheckpointTest, AnotherShapeOrOptimizerIsRefused) {
  const CheckpointInfo saved = Saved(1);
  ModelConfig wider = TinyConfig();
  wider.intermediate_size += 4;
  TinyModel other(wider);
  Optimizer optimizer(other.model.parameters(), {}, at::kFloat);
  const auto shape = LoadCheckpoint(saved, other.model, optimizer);
  ASSERT_FALSE(shape);
  EXPECT_THAT(shape.error().message, HasSubstr("mlp.gate_proj.weight"));
  ModelConfig deeper = TinyConfig();
  deeper.num_hidden_layers = 3;
  TinyModel more(deeper);
  EXPECT_FALSE(LoadWeights(saved.path, more.model));
  OptimizerSpec adam;
  adam.muon = false;
  TinyModel same;
  Optimizer adamw(same.model.parameters(), adam, at::kFloat);
  const auto kind = LoadCheckpoint(saved, same.model, adamw);
  ASSERT_FALSE(kind);
  EXPECT_THAT(kind.error().message, HasSubstr("another optimizer"));
}

TEST_F(CheckpointTest, ExportsAreReadByTheEnginesReader) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(DTypeName(dtype));
    const std::string folder = folder_ + "/export";
    const Status status = ExportModel(tiny_.model, folder, dtype, {.bos = 0, .eos = 1});
    ASSERT_TRUE(status) << status.error().message;
    const auto file = ModelFile::Open(folder);
    ASSERT_TRUE(file) << file.error().message;
    const ModelConfig &read = (*file)->config(), own = TinyConfig();
    EXPECT_EQ(read.hidden_size, own.hidden_size);
    EXPECT_EQ(read.num_nextn_predict_layers, own.num_nextn_predict_layers);
    EXPECT_EQ(read.moe.n_group, own.moe.n_group);
    EXPECT_EQ(read.moe.routed_scaling_factor, own.moe.routed_scaling_factor);
    const TensorInfo* up = (*file)->Find("model.layers.1.mlp.experts.5.up_proj.weight");
    ASSERT_NE(up, nullptr);
    EXPECT_EQ(up->dtype, dtype);
    EXPECT_EQ(up->shape, (std::vector<int64_t>{6, 16}));
    // And by the trainer, as a start of its own.
    TinyModel other(own, at::kFloat, {}, false, 50);
    const Status loaded = LoadWeights(folder, other.model);
    ASSERT_TRUE(loaded) << loaded.error().message;
    for (size_t i = 0; i < tiny_.model.parameters().size(); ++i) {
      const Tensor want = tiny_.model.parameters()[i].value.detach();
      const Tensor got = other.model.parameters()[i].value.detach();
      EXPECT_TRUE(at::equal(got, dtype == DType::kF32 ? want : want.to(at::kBFloat16).to(at::kFloat)))
          << tiny_.model.parameters()[i].name;
    }
  }
}

/// With FATHOM_EXPORT_DIR: a model and its logits, which train_gradients.py --export holds against transformers.
TEST_F(CheckpointTest, ExportForTransformers) {
  const char* folder = std::getenv("FATHOM_EXPORT_DIR");
  if (folder == nullptr) GTEST_SKIP() << "for tests/golden/train/train_gradients.py --export; set FATHOM_EXPORT_DIR";
  const Status status = ExportModel(tiny_.model, folder, DType::kF32, {.bos = 0, .eos = 1});
  ASSERT_TRUE(status) << status.error().message;
  const DeviceBatch batch = tiny_.model.ToDevice(TinyBatch({40}, 0, TinyConfig().vocab_size, 5));
  const Tensor logits = tiny_.model.Logits(batch).contiguous(), tokens = batch.tokens.to(at::kInt).contiguous();
  auto writer = SafetensorsWriter::Create(JoinPath(folder, "logits.safetensors"));
  ASSERT_TRUE(writer) << writer.error().message;
  (*writer)->Declare("tokens", DType::kI32, tokens.sizes().vec());
  (*writer)->Declare("logits", DType::kF32, logits.sizes().vec());
  ASSERT_TRUE((*writer)->WriteHeader());
  for (const Tensor& tensor : {tokens, logits}) {
    ASSERT_TRUE((*writer)->Append({static_cast<const std::byte*>(tensor.data_ptr()), tensor.nbytes()}));
  }
  ASSERT_TRUE((*writer)->Finish());
}

}  // namespace
}  // namespace fathom::train
