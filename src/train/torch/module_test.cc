#include "train/torch/module.h"

#include <ATen/core/grad_mode.h>

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/source_dir_for_test.h"
#include "engine/engine.h"
#include "format/model_file.h"
#include "train/torch/checkpoint.h"
#include "train/torch/tiny_model_for_test.h"

namespace fathom::train {
namespace {

using nlohmann::json;

const std::string kGolden = SourceDirForTest() + "/tests/golden/";

// ---- Against transformers and PyTorch (tests/golden/train/train_gradients.py)

class GoldenGradients : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::ifstream in(kGolden + "train/expected.json");
    const json all = json::parse(in);
    case_ = all["cases"][GetParam()];
    ASSERT_TRUE(case_.is_object()) << GetParam();
    for (const auto& document : case_["documents"]) {
      batch_.doc_begin.push_back(static_cast<int64_t>(batch_.tokens.size()));
      int32_t position = 0;
      for (const auto& pair : document) {
        batch_.tokens.push_back(pair[0]);
        batch_.targets.push_back(pair[1]);
        batch_.positions.push_back(position++);
      }
    }
    batch_.padding = case_["padding"];
    if (batch_.padding > 0) batch_.doc_begin.push_back(static_cast<int64_t>(batch_.tokens.size()));
    for (int32_t i = 0; i < batch_.padding; ++i) {
      batch_.tokens.push_back(2);
      batch_.targets.push_back(kNoTarget);
      batch_.positions.push_back(i);
    }
    batch_.doc_begin.push_back(static_cast<int64_t>(batch_.tokens.size()));
    file_ = std::move(*ModelFile::Open(kGolden + GetParam()));
  }
  std::unique_ptr<TinyModel> Load(at::ScalarType compute, bool checkpointed = false) {
    auto model = std::make_unique<TinyModel>(
        file_->config(), compute,
        LossSpec{.mtp_weight = case_["mtp_weight"], .sequence_balance_weight = case_["balance_weight"]}, checkpointed);
    const Status loaded = LoadWeights(kGolden + GetParam(), model->model);
    EXPECT_TRUE(loaded) << loaded.error().message;
    return model;
  }

  /// Losses, loads and every gradient; tolerances are relative.
  void Expect(at::ScalarType compute, bool checkpointed, double loss_tolerance, double gradient_tolerance) {
    const auto tiny = Load(compute, checkpointed);
    TrainModel& model = tiny->model;
    const Losses losses = model.Loss(model.ToDevice(batch_));
    losses.total.backward();
    const json &sums = case_["losses"], &counts = case_["counts"];
    EXPECT_NEAR(losses.next, sums["next"], loss_tolerance * sums["next"].get<double>());
    EXPECT_NEAR(losses.mtp, sums["mtp"], loss_tolerance * sums["mtp"].get<double>());
    EXPECT_NEAR(model.balance().item<double>(), sums["balance"], loss_tolerance * sums["balance"].get<double>());
    EXPECT_EQ(losses.next_count, counts["next"].get<int64_t>());
    EXPECT_EQ(losses.mtp_count, counts["mtp"].get<int64_t>());
    // bf16 may choose another expert where two scores nearly tie.
    if (compute != at::kBFloat16) {
      for (int layer = 0; layer < model.moe_layers(); ++layer) {
        for (int64_t e = 0; e < model.loads().size(1); ++e) {
          EXPECT_EQ(model.loads()[layer][e].item<float>(), case_["loads"][layer][e].get<float>()) << layer << ", " << e;
        }
      }
    }
    size_t seen = 0;
    for (const Parameter& parameter : model.parameters()) {
      if (parameter.kind == ParameterKind::kBias) continue;
      ASSERT_TRUE(case_["gradients"].contains(parameter.name)) << parameter.name;
      ASSERT_TRUE(parameter.value.grad().defined()) << parameter.name;
      const json& want = case_["gradients"][parameter.name];
      const Tensor flat = parameter.value.grad().to(at::kDouble).flatten();
      const Tensor direction = (at::arange(flat.numel(), at::kDouble) + 1).sin();
      const double norm = want["norm"], size = norm * std::sqrt(0.5);  // what a dot product may be expected to be
      EXPECT_NEAR(flat.norm().item<double>(), norm, gradient_tolerance * norm) << parameter.name;
      EXPECT_NEAR((flat * direction).sum().item<double>(), want["dot"], 3 * gradient_tolerance * size + 1e-12)
          << parameter.name;
      ++seen;
    }
    EXPECT_EQ(seen, case_["gradients"].size());
  }

  json case_;
  Batch batch_;
  std::unique_ptr<ModelFile> file_;
};

// transformers rounds the rotary angles to float32 elsewhere than we do.
TEST_P(GoldenGradients, InDouble) { Expect(at::kDouble, false, 1e-6, 3e-6); }
TEST_P(GoldenGradients, InF32) { Expect(at::kFloat, false, 1e-5, 1e-4); }
TEST_P(GoldenGradients, InF32WithCheckpointedActivations) { Expect(at::kFloat, true, 1e-5, 1e-4); }
TEST_P(GoldenGradients, LossInBf16) {
  const auto tiny = Load(at::kBFloat16);
  const Losses losses = tiny->model.Loss(tiny->model.ToDevice(batch_));
  losses.total.backward();
  EXPECT_NEAR(losses.next, case_["losses"]["next"], 0.03 * case_["losses"]["next"].get<double>());
  EXPECT_NEAR(losses.mtp, case_["losses"]["mtp"], 0.03 * case_["losses"]["mtp"].get<double>());
}

TEST_P(GoldenGradients, Logits) {
  for (const auto& [compute, tolerance] : {std::pair{at::kDouble, 1e-5}, std::pair{at::kFloat, 2e-4}}) {
    const auto tiny = Load(compute);
    const Tensor logits = tiny->model.Logits(tiny->model.ToDevice(batch_)).to(at::kDouble);
    for (const auto& [row, values] : case_["logits"].items()) {
      const Tensor want = at::tensor(values.get<std::vector<double>>(), at::kDouble);
      EXPECT_LE((logits[std::stoll(row)] - want).abs().max().item<double>(), tolerance) << row;
    }
  }
}

/// The engine, from the same directory: its logits are the trainer's.
TEST_P(GoldenGradients, EngineAgrees) {
  auto engine = Engine::Load(kGolden + GetParam(), {.threads = 1, .kv_type = KvType::kF32, .prefill_chunk = 64});
  ASSERT_TRUE(engine) << engine.error().message;
  const auto tiny = Load(at::kFloat);
  const Tensor logits = tiny->model.Logits(tiny->model.ToDevice(batch_)).contiguous();
  const int64_t vocab = logits.size(1);
  for (size_t d = 0; d + 1 < batch_.doc_begin.size(); ++d) {
    auto session = std::move(*(*engine)->NewSession());
    const std::vector<TokenId> tokens(batch_.tokens.begin() + batch_.doc_begin[d],
                                      batch_.tokens.begin() + batch_.doc_begin[d + 1]);
    std::vector<float> got;
    ASSERT_TRUE(session->EvalAll(tokens, got));
    const float* want = logits.data_ptr<float>() + batch_.doc_begin[d] * vocab;
    ASSERT_EQ(got.size(), tokens.size() * static_cast<size_t>(vocab));
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 5e-4) << "document " << d << ", value " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenGradients, ::testing::Values("train/v3_mtp", "hf/v3"),
                         [](const auto& info) { return info.param == "hf/v3" ? "Hf" : "Mtp"; });

// ---- Finite differences of whole models, in double

struct Variant {
  std::string name;
  std::function<void(ModelConfig&)> change;
};

class FiniteDifferences : public ::testing::TestWithParam<Variant> {};

TEST_P(FiniteDifferences, OfEveryParameter) {
  ModelConfig config = TinyConfig();
  GetParam().change(config);
  ASSERT_TRUE(ValidateConfig(config));
  TinyModel tiny(config, at::kDouble, {.mtp_weight = 0.4, .sequence_balance_weight = 0.05});
  TrainModel& model = tiny.model;
  at::manual_seed(2);
  {  // norms that are not ones, biases that are not zeros, a gate with opinions
    at::NoGradGuard no_grad;
    for (Parameter& parameter : model.parameters()) {
      if (parameter.kind == ParameterKind::kVector) parameter.value.add_(at::randn_like(parameter.value) * 0.3);
      if (parameter.kind == ParameterKind::kBias) parameter.value.add_(at::randn_like(parameter.value) * 0.1);
      if (parameter.name.ends_with("gate.weight")) parameter.value.mul_(10.0);
    }
  }
  const DeviceBatch batch = model.ToDevice(TinyBatch({13, 1, 8}, 3, config.vocab_size, 4));
  const auto loss = [&] {
    model.ClearLoads();
    const Tensor total = model.Loss(batch).total;
    return total.item<double>() + model.balance().item<double>();
  };
  model.ClearLoads();
  model.Loss(batch).total.backward();
  constexpr double kStep = 1e-6;
  for (Parameter& parameter : model.parameters()) {
    if (parameter.kind == ParameterKind::kBias) continue;
    ASSERT_TRUE(parameter.value.grad().defined()) << parameter.name;
    const Tensor grad = parameter.value.grad();
    const Tensor move = at::randn(grad.sizes(), at::kDouble), start = parameter.value.detach().clone();
    double value[2];
    for (const int side : {0, 1}) {
      {
        at::NoGradGuard no_grad;
        parameter.value.copy_(start + move * (side == 0 ? kStep : -kStep));
      }
      value[side] = loss();
    }
    {
      at::NoGradGuard no_grad;
      parameter.value.copy_(start);
    }
    const double numeric = (value[0] - value[1]) / (2 * kStep), analytic = (grad * move).sum().item<double>();
    EXPECT_NEAR(analytic, numeric, 2e-6 * (grad.norm().item<double>() + 0.1)) << parameter.name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, FiniteDifferences,
    ::testing::Values(Variant{"GroupsAndQLora", [](ModelConfig&) {}},
                      Variant{"NoQLoraNoGroupsNoShared",
                              [](ModelConfig& c) {
                                c.mla.q_lora_rank = 0;
                                c.moe.n_group = c.moe.topk_group = 1;
                                c.moe.n_shared_experts = 0;
                                c.num_nextn_predict_layers = 0;
                              }},
                      Variant{"Dense",
                              [](ModelConfig& c) {
                                c.moe = {};
                                c.num_nextn_predict_layers = 0;
                              }},
                      Variant{"TwoMtpLayersTied",
                              [](ModelConfig& c) {
                                c.num_nextn_predict_layers = 2;
                                c.tie_word_embeddings = true;
                                c.moe.norm_topk_prob = false;
                              }}),
    [](const auto& info) { return info.param.name; });

// ---- Packing, loads, biases

std::map<std::string, Tensor> Gradients(TrainModel& model) {
  std::map<std::string, Tensor> all;
  for (Parameter& parameter : model.parameters()) {
    if (!parameter.value.grad().defined()) continue;
    all[parameter.name] = parameter.value.grad().clone();
    parameter.value.mutable_grad() = Tensor();
  }
  return all;
}

TEST(TrainModel, PackedDocumentsAreAsAloneAndPaddingIsNothing) {
  TinyModel tiny(TinyConfig(), at::kDouble, {.sequence_balance_weight = 0.05});
  TrainModel& model = tiny.model;
  const Batch packed = TinyBatch({11, 6}, 7, 29, 8);
  const auto part = [&](int64_t begin, int64_t end) {
    Batch one;
    one.tokens.assign(packed.tokens.begin() + begin, packed.tokens.begin() + end);
    one.targets.assign(packed.targets.begin() + begin, packed.targets.begin() + end);
    one.positions.assign(packed.positions.begin() + begin, packed.positions.begin() + end);
    one.doc_begin = {0, end - begin};
    return one;
  };
  const Losses together = model.Loss(model.ToDevice(packed));
  together.total.backward();
  const auto want = Gradients(model);
  const Tensor loads = model.loads().clone(), balance = model.balance().clone();
  model.ClearLoads();
  Losses sum;
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 11}, {11, 17}}) {
    const Losses one = model.Loss(model.ToDevice(part(begin, end)));
    one.total.backward();
    sum.next += one.next, sum.mtp += one.mtp, sum.next_count += one.next_count, sum.mtp_count += one.mtp_count;
  }
  EXPECT_NEAR(sum.next, together.next, 1e-9);
  EXPECT_NEAR(sum.mtp, together.mtp, 1e-9);
  EXPECT_EQ(sum.next_count, together.next_count);
  EXPECT_EQ(sum.mtp_count, together.mtp_count);
  EXPECT_TRUE(at::equal(model.loads(), loads));
  EXPECT_NEAR(model.balance().item<double>(), balance.item<double>(), 1e-9);
  for (const auto& [name, grad] : Gradients(model)) {
    EXPECT_LE((grad - want.at(name)).abs().max().item<double>(), 1e-9) << name;
  }
}

TEST(TrainModel, LoadsAreCountedOnceAndWithoutPadding) {
  for (const bool checkpointed : {false, true}) {
    TinyModel tiny(TinyConfig(), at::kFloat, {}, checkpointed);
    TrainModel& model = tiny.model;
    ASSERT_EQ(model.moe_layers(), 2);  // one of the model, one of MTP
    for (int pass = 1; pass <= 2; ++pass) {
      model.Loss(model.ToDevice(TinyBatch({9, 4}, 5, 29, 6))).total.backward();
      for (int layer = 0; layer < 2; ++layer) {
        EXPECT_EQ(model.loads()[layer].sum().item<float>(), 13.0f * 3 * static_cast<float>(pass)) << checkpointed;
      }
    }
    model.ClearLoads();
    EXPECT_EQ(model.loads().abs().sum().item<float>(), 0);
    EXPECT_EQ(model.balance().item<double>(), 0);
    at::NoGradGuard no_grad;  // validation counts nothing
    model.Loss(model.ToDevice(TinyBatch({9, 4}, 5, 29, 6)));
    EXPECT_EQ(model.loads().abs().sum().item<float>(), 0);
  }
}

TEST(TrainModel, CheckpointedActivationsGiveTheSameGradients) {
  TinyModel plain(TinyConfig(), at::kFloat, {.sequence_balance_weight = 0.05}),
      saving(TinyConfig(), at::kFloat, {.sequence_balance_weight = 0.05}, true);
  const Batch batch = TinyBatch({9, 14}, 2, 29, 6);
  Losses losses[2];
  {  // the batch is gone before the backward pass
    const DeviceBatch one = plain.model.ToDevice(batch), two = saving.model.ToDevice(batch);
    losses[0] = plain.model.Loss(one);
    losses[1] = saving.model.Loss(two);
  }
  for (const Losses& loss : losses) loss.total.backward();
  EXPECT_EQ(losses[0].next, losses[1].next);
  EXPECT_EQ(losses[0].mtp, losses[1].mtp);
  EXPECT_TRUE(at::equal(plain.model.loads(), saving.model.loads()));
  const auto want = Gradients(plain.model), got = Gradients(saving.model);
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [name, grad] : got) EXPECT_TRUE(at::allclose(grad, want.at(name), 1e-5, 1e-6)) << name;
}

TEST(TrainModel, BiasesMoveAgainstTheLoad) {
  TinyModel tiny;
  TrainModel& model = tiny.model;
  model.loads()[0].copy_(at::tensor({5.0f, 1.0f, 3.0f, 3.0f, 3.0f, 3.0f, 9.0f, -3.0f}));  // mean 3
  model.loads()[1].fill_(2.0f);
  model.UpdateBiases(0.25);
  const Tensor first = tiny.Find("model.layers.1.mlp.gate.e_score_correction_bias").value;
  EXPECT_TRUE(at::equal(first, at::tensor({-0.25f, 0.25f, 0.0f, 0.0f, 0.0f, 0.0f, -0.25f, 0.25f}))) << first;
  EXPECT_EQ(tiny.Find("model.layers.2.mlp.gate.e_score_correction_bias").value.abs().sum().item<float>(), 0);
  model.UpdateBiases(0);
  EXPECT_EQ(first[0].item<float>(), -0.25f);
}

/// A bias changes who is chosen, and never the weight with which.
TEST(TrainModel, BiasChangesTheChoiceAlone) {
  TinyModel tiny(TinyConfig(), at::kDouble);
  TrainModel& model = tiny.model;
  const DeviceBatch batch = model.ToDevice(TinyBatch({12}, 0, 29, 3));
  const Tensor before = model.Logits(batch);
  Tensor bias = tiny.Find("model.layers.1.mlp.gate.e_score_correction_bias").value;
  bias.fill_(0.7);  // everyone's: nobody else is chosen
  EXPECT_TRUE(at::allclose(model.Logits(batch), before, 1e-12, 1e-12));
  bias.zero_();
  bias[6] = 100.0;
  model.ClearLoads();
  model.Loss(batch);
  EXPECT_EQ(model.loads()[0][6].item<float>(), 12.0f);
  EXPECT_TRUE(model.Logits(batch).isfinite().all().item<bool>());
}

TEST(TrainModel, SeedsDecideTheStart) {
  TinyModel one, same, other(TinyConfig(), at::kFloat, {}, false, 4);
  for (size_t i = 0; i < one.model.parameters().size(); ++i) {
    const Parameter& parameter = one.model.parameters()[i];
    EXPECT_TRUE(at::equal(parameter.value, same.model.parameters()[i].value)) << parameter.name;
    const bool drawn = parameter.kind == ParameterKind::kMatrix || parameter.kind == ParameterKind::kTable;
    EXPECT_EQ(at::equal(parameter.value, other.model.parameters()[i].value), !drawn) << parameter.name;
  }
}

}  // namespace
}  // namespace fathom::train
