#include "train/torch/ops.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "train/torch/cpu_kernels.h"

namespace fathom::train {
namespace {

using std::vector;

class Fused {
 public:
  explicit Fused(bool on) : before_(FusedKernels()) { SetFusedKernels(on); }
  ~Fused() { SetFusedKernels(before_); }

 private:
  bool before_;
};

/// A function of tensors. Parameters are f32 beside activations of any compute type, so the function says which.
struct Operation {
  std::function<Tensor(const vector<Tensor>&, at::ScalarType compute)> run;
  vector<Tensor> inputs;        // doubles that bf16 holds exactly, so that every type starts from the same values
  vector<bool> wide;            // f32 even when activations are bf16
};

/// The output and the gradient of every input, as doubles.
vector<Tensor> Results(const Operation& op, at::ScalarType compute) {
  vector<Tensor> inputs;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const auto type = compute == at::kBFloat16 && op.wide[i] ? at::kFloat : compute;
    inputs.push_back(op.inputs[i].detach().clone().to(type).requires_grad_());
  }
  const Tensor out = op.run(inputs, compute);
  // A direction that has nothing in common with the operations.
  const Tensor direction = (at::arange(out.numel(), at::kDouble) * 0.7 + 0.3).sin().view(out.sizes());
  (out.to(at::kDouble) * direction).sum().backward();
  vector<Tensor> results{out.detach().to(at::kDouble)};
  for (size_t i = 0; i < inputs.size(); ++i) {
    EXPECT_EQ(inputs[i].grad().scalar_type(), inputs[i].scalar_type());
    results.push_back(inputs[i].grad().to(at::kDouble));
  }
  return results;
}

void ExpectClose(const vector<Tensor>& got, const vector<Tensor>& want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].sizes(), want[i].sizes()) << what << " " << i;
    if (want[i].numel() == 0) continue;
    const double top = want[i].abs().max().item<double>();
    const double worst = (got[i] - want[i]).abs().max().item<double>();
    // Written so that NaN fails.
    EXPECT_TRUE(worst <= tolerance * (top + 1e-3))
        << what << ", " << (i == 0 ? "output" : "gradient of input " + std::to_string(i - 1)) << ": off by " << worst
        << " of " << top;
  }
}

/// Central differences along random directions, in double.
void ExpectFiniteDifferences(const Operation& op) {
  const vector<Tensor> results = Results(op, at::kDouble);
  const Tensor direction = (at::arange(results[0].numel(), at::kDouble) * 0.7 + 0.3).sin().view(results[0].sizes());
  at::NoGradGuard no_grad;
  constexpr double kStep = 1e-5;
  for (size_t i = 0; i < op.inputs.size(); ++i) {
    const Tensor move = at::randn(op.inputs[i].sizes(), at::kDouble);
    double value[2];
    for (const int side : {0, 1}) {
      vector<Tensor> inputs = op.inputs;
      inputs[i] = inputs[i] + move * (side == 0 ? kStep : -kStep);
      value[side] = (op.run(inputs, at::kDouble) * direction).sum().item<double>();
    }
    const double numeric = (value[0] - value[1]) / (2 * kStep);
    const double analytic = (results[i + 1] * move).sum().item<double>();
    const double scale = results[i + 1].norm().item<double>() + 1e-6;
    EXPECT_NEAR(analytic, numeric, 2e-7 * scale) << "gradient of input " << i;
  }
}

/// Fused and composed, f32 and bf16, against the composed form in double; and that against finite differences.
void Check(const Operation& op, double tolerance = 1e-5, double bf16_tolerance = 2.5e-2) {
  const vector<Tensor> want = Results(op, at::kDouble);
  for (const bool fused : {true, false}) {
    const Fused choice(fused);
    ExpectClose(Results(op, at::kFloat), want, tolerance, fused ? "fused f32" : "composed f32");
    ExpectClose(Results(op, at::kBFloat16), want, bf16_tolerance, fused ? "fused bf16" : "composed bf16");
  }
  ExpectFiniteDifferences(op);
}

Tensor Random(at::IntArrayRef sizes, double scale = 1.0) {
  return (at::randn(sizes, at::kDouble) * scale).to(at::kBFloat16).to(at::kDouble);
}

class OpsTest : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(5); }
};

TEST_F(OpsTest, Linear) {
  for (const int64_t rows : {1, 17, 65}) {
    SCOPED_TRACE(rows);
    Check({[](const vector<Tensor>& x, at::ScalarType) { return Linear(x[0], x[1]); },
           {Random({rows, 21}), Random({37, 21}, 0.2)}, {false, true}});
  }
  // Columns of a wider tensor.
  Check({[](const vector<Tensor>& x, at::ScalarType) { return Linear(x[0].narrow(1, 3, 16), x[1]); },
         {Random({9, 40}), Random({5, 16})}, {false, true}});
}

TEST_F(OpsTest, EmbedSumsGradientsOfRepeatedTokens) {
  const Tensor ids = at::tensor({4, 0, 4, 4, 2}, at::kLong);
  const Tensor table = at::randn({6, 7}).requires_grad_();
  const Tensor out = Embed(table, ids), g = at::randn({5, 7});
  EXPECT_TRUE(at::equal(out.detach(), table.detach().index_select(0, ids)));
  out.backward(g);
  EXPECT_TRUE(at::allclose(table.grad(), at::zeros({6, 7}).index_add(0, ids, g), 1e-6, 1e-6));
}

TEST_F(OpsTest, RmsNorm) {
  // Of a single column the gradient is nothing but what cancels.
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 3}, {1, 64}, {17, 7}, {65, 100}, {130, 48}}) {
    SCOPED_TRACE(width);
    const vector<Tensor> inputs{Random({rows, width}), Random({width}) + 1.5};
    const auto norm = [](const vector<Tensor>& x, at::ScalarType type) { return RmsNorm(x[0], x[1], 1e-6, type); };
    Check({norm, inputs, {false, true}});  // of activations
    Check({norm, inputs, {true, true}});   // of the residual stream
  }
  // A column slice, as that of the key-value latent.
  const auto slice = [](const vector<Tensor>& x, at::ScalarType type) {
    return RmsNorm(x[0].narrow(1, 2, 19), x[1], 1e-6, type);
  };
  Check({slice, {Random({33, 24}), Random({19})}, {false, true}});
}

TEST_F(OpsTest, RmsNormFromBf16ToF32) {
  const Tensor x = Random({5, 12}).to(at::kBFloat16), weight = Random({12}).to(at::kFloat);
  const Tensor got = RmsNorm(x, weight, 1e-6, at::kFloat), wide = x.to(at::kFloat);
  EXPECT_EQ(got.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(got, wide * (wide.square().mean(-1, true) + 1e-6).rsqrt() * weight, 1e-5, 1e-6));
}

TEST_F(OpsTest, SwiGlu) {
  for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 1}, {17, 5}, {65, 32}, {130, 50}}) {
    SCOPED_TRACE(width);
    Check({[](const vector<Tensor>& x, at::ScalarType) { return SwiGlu(x[0]); }, {Random({rows, 2 * width}, 3.0)},
           {false}});
    Check({[](const vector<Tensor>& x, at::ScalarType) { return SwiGlu(x[0], x[1]); },
           {Random({rows, 2 * width}), Random({rows})}, {false, true}});
  }
}

TEST_F(OpsTest, SwiGluOfLargeValues) {
  const Tensor x = at::tensor({-1000.0f, -90.0f, 0.0f, 90.0f, 1000.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f}).view({1, 10});
  const Tensor leaf = x.clone().requires_grad_(), y = SwiGlu(leaf);
  EXPECT_TRUE(at::allclose(y.detach(), at::silu(x.narrow(1, 0, 5)), 1e-6, 1e-30)) << y;
  y.sum().backward();
  EXPECT_TRUE(leaf.grad().isfinite().all().item<bool>()) << leaf.grad();
}

TEST_F(OpsTest, AddResidual) {
  Check({[](const vector<Tensor>& x, at::ScalarType) { return AddResidual(x[0], x[1]); },
         {Random({17, 9}), Random({17, 9})}, {true, false}});
}

TEST_F(OpsTest, RopeTail) {
  const auto tables = [](int64_t rows, int64_t pairs) {
    const Tensor angle = at::arange(rows, at::kFloat).unsqueeze(1) * (at::arange(pairs, at::kFloat) * -0.7).exp();
    return std::pair{angle.cos().contiguous(), angle.sin().contiguous()};
  };
  for (const auto& [rows, width, dim] : {std::tuple<int64_t, int64_t, int64_t>{1, 8, 8}, {17, 24, 8}, {65, 10, 2}}) {
    const auto [cos, sin] = tables(rows, dim / 2);
    Check({[cos = cos, sin = sin, dim = dim](const vector<Tensor>& x, at::ScalarType) {
             return RopeTail(x[0], dim, cos, sin);
           },
           {Random({rows, 3, width})}, {false}});
  }
  // The key's part: columns of the latent, as one head.
  const auto [cos, sin] = tables(17, 4);
  Check({[cos = cos, sin = sin](const vector<Tensor>& x, at::ScalarType) {
           return RopeTail(x[0].narrow(1, 5, 8).unsqueeze(1), 8, cos, sin);
         },
         {Random({17, 13})}, {false}});
}

Operation AttentionOf(vector<int64_t> docs, int64_t heads, int64_t qk_dim, int64_t v_dim, double scale = 0.3) {
  const int64_t n = docs.back();
  return {[=](const vector<Tensor>& x, at::ScalarType) { return DocumentAttention(x[0], x[1], x[2], scale, docs); },
          {Random({n, heads, qk_dim}), Random({n, heads, qk_dim}), Random({n, heads, v_dim})}, {false, false, false}};
}

TEST_F(OpsTest, AttentionOfDocuments) {
  Check(AttentionOf({0, 1}, 1, 16, 16));
  Check(AttentionOf({0, 17}, 3, 24, 20));
  Check(AttentionOf({0, 64}, 1, 8, 16));
  Check(AttentionOf({0, 65}, 2, 5, 3));
  // All of them beside each other, with an empty one between.
  Check(AttentionOf({0, 1, 18, 82, 82, 147, 277}, 2, 24, 20));
}

TEST_F(OpsTest, AttentionOfSlices) {
  // Queries and values as column slices of wider tensors, as the model makes them.
  Check({[](const vector<Tensor>& x, at::ScalarType) {
           return DocumentAttention(x[0].narrow(2, 1, 12), x[1], x[2].narrow(2, 4, 6), 0.2, {0, 20, 33});
         },
         {Random({33, 2, 16}), Random({33, 2, 12}), Random({33, 2, 10})}, {false, false, false}});
}

TEST_F(OpsTest, AttentionSeesNoOtherDocumentAndNoFuture) {
  const Tensor q = at::randn({40, 2, 16}), k = at::randn({40, 2, 16}), v = at::randn({40, 2, 16});
  const vector<int64_t> docs{0, 23, 40};
  const Tensor before = DocumentAttention(q, k, v, 0.25, docs);
  Tensor k2 = k.clone(), v2 = v.clone();
  k2.narrow(0, 12, 11).normal_();
  v2.narrow(0, 12, 11).fill_(std::numeric_limits<float>::max());
  const Tensor after = DocumentAttention(q, k2, v2, 0.25, docs);
  EXPECT_TRUE(at::equal(before.narrow(0, 0, 12), after.narrow(0, 0, 12)));
  EXPECT_TRUE(at::equal(before.narrow(0, 23, 17), after.narrow(0, 23, 17)));
}

TEST_F(OpsTest, AttentionOfHugeScoresStaysFinite) {
  Operation op = AttentionOf({0, 70}, 1, 16, 16, 100.0);
  for (const Tensor& result : Results(op, at::kFloat)) EXPECT_TRUE(result.isfinite().all().item<bool>());
}

TEST_F(OpsTest, GroupByExpertSortsTokens) {
  const Tensor choices = at::tensor({3, 1, 1, 3, 3, 0}, at::kLong).view({3, 2});
  const ExpertGroups groups = GroupByExpert(choices, 5);
  EXPECT_EQ(groups.begin, (vector<int64_t>{0, 64, 128, 128, 192, 192}));  // experts 2 and 4 have nobody
  const auto rows = groups.rows.accessor<int64_t, 1>();
  EXPECT_EQ(groups.rows.size(0), 192);
  EXPECT_EQ(rows[0], 2);
  EXPECT_EQ(rows[64], 0);
  EXPECT_EQ(rows[65], 1);
  EXPECT_EQ(rows[128], 0);
  EXPECT_EQ(rows[129], 1);
  EXPECT_EQ(rows[130], 2);
  EXPECT_TRUE(at::equal(groups.slots, at::tensor({128, 64, 65, 129, 130, 0}, at::kLong).view({3, 2})));
}

TEST_F(OpsTest, GroupedExperts) {
  for (const int64_t tokens : {1, 17, 130}) {
    SCOPED_TRACE(tokens);
    // Experts 0 and 5 get nobody; 3 gets more than one block of slots.
    vector<int64_t> ids;
    for (int64_t i = 0; i < tokens; ++i) {
      const int64_t second[] = {1, 2, 4};
      ids.insert(ids.end(), {3, second[i % 3]});
    }
    const Tensor choices = at::tensor(ids, at::kLong).view({tokens, 2});
    const ExpertGroups groups = GroupByExpert(choices, 6);
    const Operation op{[groups](const vector<Tensor>& x, at::ScalarType) {
                         return GroupedExperts(x[0], x[1], groups, x[2], x[3]);
                       },
                       {Random({tokens, 12}), Random({tokens, 2}), Random({6, 2 * 7, 12}, 0.3),
                        Random({6, 12, 7}, 0.3)},
                       {false, true, true, true}};
    Check(op);
    const vector<Tensor> results = Results(op, at::kFloat);
    for (const int64_t nobody : {0, 5}) {
      EXPECT_EQ(results[3][nobody].abs().max().item<double>(), 0);
      EXPECT_EQ(results[4][nobody].abs().max().item<double>(), 0);
    }
    // And against the sum that the groups stand for.
    Tensor want = at::zeros({tokens, 12}, at::kDouble);
    for (int64_t i = 0; i < tokens; ++i) {
      for (int64_t j = 0; j < 2; ++j) {
        const int64_t e = ids[2 * i + j];
        const Tensor h = at::mv(op.inputs[2][e], op.inputs[0][i]);
        want[i] += at::mv(op.inputs[3][e], at::silu(h.narrow(0, 0, 7)) * h.narrow(0, 7, 7)) * op.inputs[1][i][j];
      }
    }
    ExpectClose({results[0]}, {want}, 1e-5, "the plain sum");
  }
}

TEST_F(OpsTest, GroupedExpertsOfNoTokens) {
  const ExpertGroups groups = GroupByExpert(at::zeros({0, 1}, at::kLong), 3);
  for (const bool fused : {true, false}) {
    const Fused choice(fused);
    const Tensor x = at::zeros({0, 4}).requires_grad_(), gate_up = at::randn({3, 6, 4}).requires_grad_();
    const Tensor y = GroupedExperts(x, at::ones({0, 1}), groups, gate_up, at::randn({3, 4, 3}));
    EXPECT_EQ(y.sizes(), x.sizes());
    y.sum().backward();
  }
}

TEST_F(OpsTest, HeadLoss) {
  for (const auto& [rows, vocab] : {std::pair<int64_t, int64_t>{1, 2}, {5, 37}, {1030, 19}}) {
    SCOPED_TRACE(rows);
    const Tensor targets = at::randint(vocab, {rows}, at::kLong);
    // The gradient's rounding to bf16 is spread over thousands of rows: errors add up like a random walk.
    Check({[targets](const vector<Tensor>& x, at::ScalarType) { return HeadLoss(x[0], x[1], targets) * 0.5; },
           {Random({rows, 11}), Random({vocab, 11}, 0.7)}, {false, true}});
  }
}

TEST_F(OpsTest, HeadLossOfNothing) {
  const Tensor hidden = at::zeros({0, 4}).requires_grad_(), head = at::randn({3, 4}).requires_grad_();
  const Tensor loss = HeadLoss(hidden, head, at::zeros({0}, at::kLong));
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0);
  EXPECT_EQ(head.grad().abs().max().item<double>(), 0);
}

TEST_F(OpsTest, HeadLossOfExtremeLogits) {
  const Tensor hidden = at::tensor({1.0f, -1.0f}).view({2, 1}).requires_grad_();
  const Tensor head = at::tensor({3000.0f, 0.0f, -3000.0f}).view({3, 1});
  const Tensor loss = HeadLoss(hidden, head, at::tensor({0, 0}, at::kLong));
  EXPECT_NEAR(loss.item<double>(), 6000, 1);
  loss.backward();
  EXPECT_TRUE(hidden.grad().isfinite().all().item<bool>());
}

TEST_F(OpsTest, CheckpointedGivesTheSameGradients) {
  const Tensor x = at::randn({33, 16}), w1 = at::randn({24, 16}).requires_grad_(), n = at::ones({16}).requires_grad_(),
               w2 = at::randn({16, 12}).requires_grad_();
  int runs = 0;
  const auto body = [&](const Tensor& in) {
    ++runs;
    return in + Linear(SwiGlu(Linear(RmsNorm(in, n, 1e-6, at::kFloat), w1)), w2);
  };
  vector<vector<Tensor>> results;
  for (const bool checkpointed : {false, true}) {
    for (const Tensor& w : {w1, n, w2}) w.mutable_grad() = Tensor();
    const Tensor leaf = x.clone().requires_grad_();
    const auto layer = [&](const Tensor& in) { return checkpointed ? Checkpointed(body, in) : body(in); };
    const Tensor y = layer(layer(leaf));
    y.square().sum().backward();
    results.push_back({y.detach(), leaf.grad().clone(), w1.grad().clone(), n.grad().clone(), w2.grad().clone()});
  }
  EXPECT_EQ(runs, 2 + 4);
  for (size_t i = 0; i < results[0].size(); ++i) EXPECT_TRUE(at::equal(results[0][i], results[1][i])) << i;
}

TEST_F(OpsTest, ThreadsDoNotChangeTheBits) {
  const int before = at::get_num_threads();
  const Tensor targets = at::randint(29, {600}, at::kLong), choices = at::randint(4, {600, 2}, at::kLong);
  const ExpertGroups groups = GroupByExpert(choices, 4);
  const Operation op{[&](const vector<Tensor>& x, at::ScalarType type) {
                       const Tensor h = RmsNorm(x[0], x[1], 1e-6, type);
                       const Tensor y = GroupedExperts(h, x[2], groups, x[3], x[4]).view({600, 2, 8});
                       return HeadLoss(DocumentAttention(y, y, y, 0.3, {0, 1, 300, 600}).flatten(1), x[5], targets);
                     },
                     {Random({600, 16}), Random({16}), Random({600, 2}), Random({4, 12, 16}), Random({4, 16, 6}),
                      Random({29, 16})},
                     {true, true, true, true, true, true}};
  at::set_num_threads(1);
  const vector<Tensor> one = Results(op, at::kFloat), again = Results(op, at::kFloat);
  at::set_num_threads(2);
  const vector<Tensor> two = Results(op, at::kFloat);
  at::set_num_threads(before);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_TRUE(at::equal(one[i], again[i])) << i;
    EXPECT_TRUE(at::equal(one[i], two[i])) << i;
  }
}

// ---- The loops themselves, one instruction set against another.

float Wide(float x) { return x; }
float Wide(Bf16 x) {
  const uint32_t bits = uint32_t{x.bits} << 16;
  return std::bit_cast<float>(bits);
}

template <typename T>
vector<T> RandomValues(int64_t count, double scale = 1.0) {
  const Tensor x = (at::randn({count}) * scale).to(std::is_same_v<T, float> ? at::kFloat : at::kBFloat16);
  const T* data = static_cast<const T*>(x.data_ptr());
  return {data, data + count};
}

/// Every loop's results on the same input, one after another. Places that a loop must not touch hold 123.
template <typename T>
vector<vector<float>> RunAll(const CpuKernels<T>& kernels, int64_t rows, int64_t width) {
  at::manual_seed(11);
  constexpr int64_t kMargin = 16;
  vector<vector<float>> results;
  const auto fresh = [&]<typename U>(U, int64_t count) {
    vector<U> out(count + kMargin);
    for (U& value : out) {
      if constexpr (std::is_same_v<U, float>) value = 123.0f;
      else value = Bf16{0x42f6};  // 123
    }
    return out;
  };
  const auto keep = [&](const auto& values) {
    vector<float> wide;
    for (const auto& value : values) wide.push_back(Wide(value));
    for (int64_t i = 0; i < kMargin; ++i) EXPECT_EQ(wide[wide.size() - 1 - i], 123.0f) << "written past the end";
    results.push_back(std::move(wide));
  };

  const int64_t stride = width + 3, cells = rows * width;
  const auto weight = RandomValues<float>(width), xf = RandomValues<float>(rows * stride);
  const auto x = RandomValues<T>(rows * stride), g = RandomValues<T>(cells), gate_up = RandomValues<T>(2 * cells, 2.0);
  auto out = fresh(T{}, cells);
  auto rstd = fresh(0.0f, rows), dx = fresh(0.0f, cells);
  auto dxt = fresh(T{}, cells);
  vector<float> dweight(width + kMargin, 0.0f);
  std::fill(dweight.end() - kMargin, dweight.end(), 123.0f);
  kernels.rms_norm_f32(xf.data(), stride, weight.data(), 1e-6f, rows, width, out.data(), rstd.data());
  keep(out), keep(rstd);
  kernels.rms_norm_backward_f32(g.data(), xf.data(), stride, weight.data(), rstd.data(), rows, width, dx.data(),
                                dweight.data());
  keep(dx), keep(dweight);
  kernels.rms_norm(x.data(), stride, weight.data(), 1e-6f, rows, width, out.data(), rstd.data());
  keep(out), keep(rstd);
  kernels.rms_norm_backward(g.data(), x.data(), stride, weight.data(), rstd.data(), rows, width, dxt.data(),
                            dweight.data());
  keep(dxt), keep(dweight);

  const auto scale = RandomValues<float>(rows);
  auto dgate = fresh(T{}, 2 * cells);
  auto dscale = fresh(0.0f, rows);
  kernels.swiglu(gate_up.data(), scale.data(), rows, width, out.data());
  keep(out);
  kernels.swiglu_backward(g.data(), gate_up.data(), scale.data(), rows, width, dgate.data(), dscale.data());
  keep(dgate), keep(dscale);

  const int64_t even = width / 2 * 2;
  auto turned = fresh(T{}, rows * stride);
  std::copy(x.begin(), x.end(), turned.begin());
  const auto cos = RandomValues<float>(width), sin = RandomValues<float>(width);
  kernels.rope_row(turned.data(), rows, stride, even, cos.data(), sin.data(), -1.0f);
  keep(turned);

  auto logits = fresh(T{}, cells);
  std::copy(g.begin(), g.end(), logits.begin());
  vector<int32_t> targets;
  for (int64_t row = 0; row < rows; ++row) targets.push_back(static_cast<int32_t>(row * 7 % width));
  const double loss = kernels.cross_entropy(logits.data(), targets.data(), rows, width);
  keep(logits);
  results.push_back({static_cast<float>(loss)});

  vector<int32_t> slots;
  for (int64_t i = 0; i < rows * 2; ++i) slots.push_back(static_cast<int32_t>(i * 5 % rows));
  auto sums = fresh(0.0f, cells);
  kernels.sum_slots_f32(g.data(), slots.data(), 2, rows, width, sums.data());
  kernels.sum_slots(g.data(), slots.data(), 2, rows, width, out.data());
  keep(sums), keep(out);

  const int64_t v_dim = width + 1;
  const auto q = RandomValues<T>(cells), k = RandomValues<T>(cells), v = RandomValues<T>(rows * v_dim),
             grad = RandomValues<T>(rows * v_dim);
  auto attended = fresh(T{}, rows * v_dim), dv = fresh(T{}, rows * v_dim), dq = fresh(T{}, cells),
       dk = fresh(T{}, cells);
  auto log_sum = fresh(0.0f, rows), work = fresh(0.0f, AttentionWork(rows, width, v_dim));
  const AttentionTask<T> task{.tokens = rows, .qk_dim = width, .v_dim = v_dim, .q = q.data(), .k = k.data(),
                              .v = v.data(), .q_stride = width, .k_stride = width, .v_stride = v_dim, .scale = 0.4f,
                              .out = attended.data(), .out_stride = v_dim, .log_sum = log_sum.data(),
                              .grad = grad.data(), .dq = dq.data(), .dk = dk.data(), .dv = dv.data()};
  kernels.attention(task, work.data());
  keep(attended), keep(log_sum);
  kernels.attention_backward(task, work.data());
  keep(dq), keep(dk), keep(dv);
  for (int64_t i = 0; i < kMargin; ++i) EXPECT_EQ(work[work.size() - 1 - i], 123.0f) << "work space overrun";
  return results;
}

template <typename T>
void CompareInstructionSets(double tolerance) {
  const CpuKernels<T>* plain = KernelsFor<T>(InstructionSet::kPlain);
  ASSERT_NE(plain, nullptr);
  int compared = 0;
  for (const auto set : {InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    const CpuKernels<T>* kernels = KernelsFor<T>(set);
    if (kernels == nullptr) continue;
    ++compared;
    for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{1, 2}, {17, 15}, {64, 16}, {65, 33}, {130, 70}}) {
      const auto want = RunAll(*plain, rows, width), got = RunAll(*kernels, rows, width);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_EQ(got[i].size(), want[i].size());
        double top = 0, worst = 0;
        for (size_t j = 0; j < want[i].size(); ++j) {
          if (want[i][j] != 123.0f) top = std::max(top, std::abs(double{want[i][j]}));
          worst = std::max(worst, std::abs(double{got[i][j]} - double{want[i][j]}));
        }
        EXPECT_TRUE(worst <= tolerance * (top + 1e-3))
            << "set " << static_cast<int>(set) << ", result " << i << " of " << rows << " x " << width << ": " << worst
            << " of " << top;
      }
    }
  }
  if (compared == 0) GTEST_SKIP() << "this CPU has neither AVX2 nor AVX-512";
}

TEST(CpuKernels, InstructionSetsAgreeInF32) { CompareInstructionSets<float>(3e-6); }
// One place of bf16's last bit is allowed: a sum in another order may round to the other side.
TEST(CpuKernels, InstructionSetsAgreeInBf16) { CompareInstructionSets<Bf16>(8e-3); }

}  // namespace
}  // namespace fathom::train
