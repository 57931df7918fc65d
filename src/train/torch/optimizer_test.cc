#include "train/torch/optimizer.h"

#include <gtest/gtest.h>
#include <torch/optim/adamw.h>

#include <cmath>

namespace fathom::train {
namespace {

Parameter Make(const std::string& name, const Tensor& value, ParameterKind kind, int64_t stacked = 1) {
  Tensor leaf = value.clone();
  if (kind != ParameterKind::kBias) leaf.set_requires_grad(true);
  return {name, leaf, kind, stacked, false};
}

void SetGradient(Parameter& parameter, const Tensor& grad) { parameter.value.mutable_grad() = grad.clone(); }

class OptimizerTest : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(9); }
};

TEST_F(OptimizerTest, AdamWAsPyTorchs) {
  OptimizerSpec spec;
  spec.muon = false;
  spec.adam_learning_rate = 0.02;
  spec.weight_decay = 0.3;
  std::vector<Parameter> parameters = {Make("matrix", at::randn({7, 5}), ParameterKind::kMatrix),
                                       Make("table", at::randn({3, 4}), ParameterKind::kTable),
                                       Make("norm", at::randn({6}), ParameterKind::kVector),
                                       Make("bias", at::randn({4}), ParameterKind::kBias)};
  const Tensor bias = parameters[3].value.clone();
  std::vector<Tensor> theirs;
  for (int i = 0; i < 3; ++i) theirs.push_back(parameters[i].value.detach().clone().set_requires_grad(true));
  const auto options = [&](double decay) {
    auto all = std::make_unique<torch::optim::AdamWOptions>(spec.adam_learning_rate);
    all->betas({spec.beta1, spec.beta2}).eps(spec.epsilon).weight_decay(decay);
    return all;
  };
  torch::optim::AdamW reference({torch::optim::OptimizerParamGroup({theirs[0], theirs[1]}, options(spec.weight_decay)),
                                 torch::optim::OptimizerParamGroup({theirs[2]}, options(0))},
                                torch::optim::AdamWOptions(spec.adam_learning_rate));
  Optimizer optimizer(parameters, spec, at::kFloat);
  for (int step = 0; step < 20; ++step) {
    const double share = step < 5 ? (step + 1) / 5.0 : 1.0 - step / 25.0;
    for (auto& group : reference.param_groups()) {
      static_cast<torch::optim::AdamWOptions&>(group.options()).lr(spec.adam_learning_rate * share);
    }
    for (int i = 0; i < 3; ++i) {
      const Tensor grad = at::randn(theirs[i].sizes()) * (i + 0.5);
      SetGradient(parameters[i], grad);
      theirs[i].mutable_grad() = grad;
    }
    reference.step();
    optimizer.Step(share);
    for (int i = 0; i < 3; ++i) {
      const double worst = (parameters[i].value - theirs[i]).abs().max().item<double>();
      ASSERT_LE(worst, 2e-6) << "step " << step << ", " << parameters[i].name;
    }
  }
  EXPECT_EQ(optimizer.steps(), 20);
  EXPECT_TRUE(at::equal(parameters[3].value, bias));
  EXPECT_EQ(optimizer.State().size(), 6u);
}

TEST_F(OptimizerTest, ParametersWithoutGradientStay) {
  std::vector<Parameter> parameters = {Make("a", at::randn({4, 4}), ParameterKind::kMatrix),
                                       Make("b", at::randn({4, 4}), ParameterKind::kTable)};
  const Tensor a = parameters[0].value.detach().clone(), b = parameters[1].value.detach().clone();
  Optimizer optimizer(parameters, {}, at::kFloat);
  optimizer.Step(1.0);
  EXPECT_TRUE(at::equal(parameters[0].value, a));
  EXPECT_TRUE(at::equal(parameters[1].value, b));
}

/// Singular values, from the eigenvalues of the smaller Gram matrix (this libtorch may lack LAPACK's svd): bounds of
/// |x| along random directions of the smaller side.
std::pair<double, double> Stretch(const Tensor& matrix) {
  const Tensor x = (matrix.size(0) < matrix.size(1) ? matrix.t() : matrix).to(at::kDouble);
  const Tensor gram = at::matmul(x.t(), x), unit = at::eye(gram.size(0), gram.options());
  const auto largest = [](const Tensor& a) {  // of a positive semidefinite matrix, by squaring it
    Tensor power = a;
    double scale = 0;
    for (int i = 0; i < 12; ++i) {
      const double norm = power.norm().item<double>();
      if (norm == 0) return 0.0;
      scale += std::log(norm) / std::pow(2.0, i);
      power = power / norm;
      power = at::matmul(power, power);
    }
    return std::exp(scale + std::log(std::max(power.norm().item<double>(), 1e-300)) / std::pow(2.0, 12));
  };
  const double top = largest(gram), bottom = top - largest(unit * top - gram);
  return {std::sqrt(std::max(0.0, bottom)), std::sqrt(top)};
}

TEST_F(OptimizerTest, OrthogonalizeInBothOrientations) {
  const std::pair<int64_t, int64_t> shapes[] = {{8, 8}, {24, 8}, {8, 24}, {1, 5}, {5, 1}};
  for (const auto& [rows, columns] : shapes) {
    SCOPED_TRACE(testing::Message() << rows << " x " << columns);
    // Singular values between 1 and 2 times some scale, so that ten steps surely converge.
    const int64_t small = std::min(rows, columns);
    Tensor x = at::zeros({rows, columns});
    for (int64_t i = 0; i < small; ++i) x[i][i] = 1.0 + static_cast<double>(i) / static_cast<double>(small);
    const auto rotate = [](Tensor m) {  // Householder reflections from the left
      const Tensor v = at::randn({m.size(0), 1});
      return m - at::matmul(v, at::matmul(v.t(), m)) * (2.0 / v.square().sum());
    };
    x = rotate(rotate(x));
    x = rotate(x.t().contiguous()).t().contiguous() * 37.0;
    const Tensor y = Orthogonalize(x, 10, at::kFloat);
    ASSERT_EQ(y.sizes(), x.sizes());
    const auto [low, high] = Stretch(y);
    EXPECT_GT(low, 0.97);
    EXPECT_LT(high, 1.03);
    // The nearest one: x = y p with p symmetric and positive.
    const Tensor p = columns <= rows ? at::matmul(y.t(), x) : at::matmul(x, y.t());
    EXPECT_TRUE(at::allclose(p, p.t(), 0, 0.5)) << p;
    EXPECT_GT(p.trace().item<double>(), 0);
    const auto [fast_low, fast_high] = Stretch(Orthogonalize(x, 5, at::kFloat));
    EXPECT_GT(fast_low, 0.6);
    EXPECT_LT(fast_high, 1.3);
    const auto [bf16_low, bf16_high] = Stretch(Orthogonalize(x, 10, at::kBFloat16).to(at::kFloat));
    EXPECT_GT(bf16_low, 0.9);
    EXPECT_LT(bf16_high, 1.1);
  }
}

TEST_F(OptimizerTest, OrthogonalizeTakesBatchesOneByOne) {
  const Tensor x = at::randn({5, 12, 7});
  const Tensor together = Orthogonalize(x, 10, at::kFloat);
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_TRUE(at::allclose(together[i], Orthogonalize(x[i], 10, at::kFloat), 1e-4, 1e-4)) << i;
  }
  // Neither a matrix of nothing nor huge or tiny values end in NaN.
  EXPECT_EQ(Orthogonalize(at::zeros({3, 4}), 10, at::kFloat).abs().max().item<double>(), 0);
  for (const double scale : {1e-6, 1e15}) {
    EXPECT_TRUE(at::allclose(Orthogonalize(x * scale, 10, at::kFloat), together, 1e-2, 5e-2)) << scale;
  }
}

TEST_F(OptimizerTest, MuonTreatsStackedHalvesApart) {
  OptimizerSpec spec;
  spec.learning_rate = 0.1;
  spec.weight_decay = 0;
  const Tensor start = at::zeros({2 * 6, 9}), grad = at::randn({2 * 6, 9});
  std::vector<Parameter> stacked = {Make("gate_up", start, ParameterKind::kMatrix, 2)};
  std::vector<Parameter> halves = {Make("gate", at::zeros({6, 9}), ParameterKind::kMatrix),
                                   Make("up", at::zeros({6, 9}), ParameterKind::kMatrix)};
  // One half a thousand times larger must not drown the other.
  const Tensor upper = grad.narrow(0, 0, 6) * 1000.0, lower = grad.narrow(0, 6, 6);
  SetGradient(stacked[0], at::cat({upper, lower}));
  SetGradient(halves[0], upper);
  SetGradient(halves[1], lower);
  Optimizer one(stacked, spec, at::kFloat), two(halves, spec, at::kFloat);
  one.Step(1.0);
  two.Step(1.0);
  const Tensor apart = at::cat({halves[0].value, halves[1].value});
  EXPECT_TRUE(at::allclose(stacked[0].value, apart, 1e-4, 1e-6));
  // An update's root mean square is 0.18 of the rate, whatever the gradient's size and the matrix's shape.
  for (const Tensor& half : {halves[0].value, halves[1].value}) {
    EXPECT_NEAR(half.square().mean().sqrt().item<double>(), 0.018, 0.001);
  }
  EXPECT_LT((halves[1].value * lower).sum().item<double>(), 0) << "the update goes down the gradient";
}

TEST_F(OptimizerTest, MuonOfExpertStacks) {
  OptimizerSpec spec;
  spec.weight_decay = 0.2;
  const Tensor start = at::randn({3, 2 * 4, 5});
  std::vector<Parameter> all = {Make("experts", start, ParameterKind::kMatrix, 2)};
  std::vector<std::vector<Parameter>> alone;
  std::vector<Optimizer> optimizers;
  for (int64_t e = 0; e < 3; ++e) alone.push_back({Make("expert", start[e], ParameterKind::kMatrix, 2)});
  for (auto& parameters : alone) optimizers.emplace_back(parameters, spec, at::kFloat);
  Optimizer together(all, spec, at::kFloat);
  for (int step = 0; step < 3; ++step) {
    const Tensor grad = at::randn(start.sizes());
    SetGradient(all[0], grad);
    together.Step(0.5);
    for (int64_t e = 0; e < 3; ++e) {
      SetGradient(alone[e][0], grad[e]);
      optimizers[e].Step(0.5);
    }
  }
  for (int64_t e = 0; e < 3; ++e) EXPECT_TRUE(at::allclose(all[0].value[e], alone[e][0].value, 1e-4, 1e-5)) << e;
  EXPECT_FALSE(at::allclose(all[0].value, start, 1e-3, 1e-3));
}

TEST_F(OptimizerTest, GradientNormIsThatOfAllTogether) {
  std::vector<Parameter> parameters = {Make("a", at::randn({4, 3}), ParameterKind::kMatrix),
                                       Make("b", at::randn({5}), ParameterKind::kVector),
                                       Make("none", at::randn({5}), ParameterKind::kVector)};
  const Tensor a = at::randn({4, 3}), b = at::randn({5});
  SetGradient(parameters[0], a);
  SetGradient(parameters[1], b);
  const auto ranks = MakeSingleRank();
  EXPECT_NEAR(GradientNorm(parameters, *ranks), at::cat({a.flatten(), b}).norm().item<double>(), 1e-5);
  SetGradient(parameters[1], b / 0.0);
  EXPECT_FALSE(std::isfinite(GradientNorm(parameters, *ranks)));
}

TEST_F(OptimizerTest, ZeroGradientsClearsAll) {
  std::vector<Parameter> parameters = {Make("a", at::randn({4, 3}), ParameterKind::kMatrix)};
  SetGradient(parameters[0], at::randn({4, 3}));
  Optimizer optimizer(parameters, {}, at::kFloat);
  optimizer.ZeroGradients();
  EXPECT_EQ(parameters[0].value.grad().abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace fathom::train
