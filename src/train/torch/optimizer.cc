#include "train/torch/optimizer.h"

#include <ATen/core/grad_mode.h>

#include <cmath>

namespace fathom::train {
namespace {

constexpr double kUpdateRms = 0.18;  // DeepSeek-V4; 0.2 in arXiv 2502.16982

}  // namespace

Optimizer::Optimizer(std::vector<Parameter>& parameters, const OptimizerSpec& spec, at::ScalarType compute)
    : spec_(spec), compute_(compute) {
  for (Parameter& parameter : parameters) {
    if (parameter.kind == ParameterKind::kBias) continue;
    Slot slot{&parameter, spec.muon && parameter.kind == ParameterKind::kMatrix, at::zeros_like(parameter.value), {}};
    if (!slot.muon) slot.second = at::zeros_like(parameter.value);
    slots_.push_back(std::move(slot));
  }
}

void Optimizer::Step(double share) {
  at::NoGradGuard no_grad;
  ++steps_;
  for (Slot& slot : slots_) {
    if (!slot.parameter->value.grad().defined()) continue;
    if (slot.muon) MuonStep(slot, spec_.learning_rate * share);
    else AdamStep(slot, spec_.adam_learning_rate * share);
  }
}

void Optimizer::AdamStep(Slot& slot, double rate) {
  Tensor value = slot.parameter->value;
  const Tensor grad = value.grad();
  const bool decays = slot.parameter->kind != ParameterKind::kVector;
  if (decays && spec_.weight_decay > 0) value.mul_(1.0 - rate * spec_.weight_decay);
  slot.first.mul_(spec_.beta1).add_(grad, 1.0 - spec_.beta1);
  slot.second.mul_(spec_.beta2).addcmul_(grad, grad, 1.0 - spec_.beta2);
  const double correction1 = 1.0 - std::pow(spec_.beta1, static_cast<double>(steps_));
  const double correction2 = 1.0 - std::pow(spec_.beta2, static_cast<double>(steps_));
  const Tensor denominator = slot.second.sqrt().div_(std::sqrt(correction2)).add_(spec_.epsilon);
  value.addcdiv_(slot.first, denominator, -rate / correction1);
}

void Optimizer::MuonStep(Slot& slot, double rate) {
  Tensor value = slot.parameter->value;
  const Tensor grad = value.grad();
  slot.first.mul_(spec_.momentum).add_(grad, 1.0 - spec_.momentum);
  const Tensor nesterov = at::add(grad * (1.0 - spec_.momentum), slot.first, spec_.momentum);
  const int64_t columns = value.size(-1), rows = value.size(-2) / slot.parameter->stacked;
  const Tensor matrices = nesterov.view({-1, rows, columns});
  const Tensor update = Orthogonalize(matrices, spec_.newton_schulz_steps, compute_).view(value.sizes());
  if (spec_.weight_decay > 0) value.mul_(1.0 - rate * spec_.weight_decay);
  value.add_(update.to(value.scalar_type()),
             -rate * kUpdateRms * std::sqrt(static_cast<double>(std::max(rows, columns))));
}

void Optimizer::ZeroGradients() {
  for (Slot& slot : slots_) {
    if (Tensor grad = slot.parameter->value.grad(); grad.defined()) grad.zero_();
  }
}

std::vector<std::pair<std::string, Tensor>> Optimizer::State() {
  std::vector<std::pair<std::string, Tensor>> state;
  for (Slot& slot : slots_) {
    state.emplace_back(slot.parameter->name + (slot.muon ? ".momentum" : ".exp_avg"), slot.first);
    if (!slot.muon) state.emplace_back(slot.parameter->name + ".exp_avg_sq", slot.second);
  }
  return state;
}

Tensor Orthogonalize(const Tensor& matrices, int steps, at::ScalarType compute) {
  const bool tall = matrices.size(-2) > matrices.size(-1);
  Tensor x = tall ? matrices.transpose(-2, -1) : matrices;
  x = x / (x.square().sum({-2, -1}, true).sqrt() + 1e-7);
  x = x.to(compute).contiguous();
  for (int i = 0; i < steps; ++i) {
    const bool converging = steps >= 8 && i + 2 >= steps;
    const double a = converging ? 2.0 : 3.4445, b = converging ? -1.5 : -4.7750, c = converging ? 0.5 : 2.0315;
    const Tensor square = at::matmul(x, x.transpose(-2, -1));
    const Tensor polynomial = square * b + at::matmul(square, square) * c;
    x = x * a + at::matmul(polynomial, x);
  }
  return tall ? x.transpose(-2, -1).contiguous() : x;
}

double GradientNorm(const std::vector<Parameter>& parameters, Ranks& ranks) {
  at::NoGradGuard no_grad;
  Tensor sums = at::zeros({2}, at::kDouble);  // replicated, sharded
  for (const Parameter& parameter : parameters) {
    if (!parameter.value.grad().defined()) continue;
    sums[parameter.sharded ? 1 : 0] += parameter.value.grad().norm().to(at::kCPU).to(at::kDouble).square();
  }
  if (!ranks.alone()) {
    Tensor sharded = sums.narrow(0, 1, 1).clone().to(parameters.front().value.device());
    ranks.Sum(sharded);
    sums[1] = sharded.to(at::kCPU)[0];
  }
  return std::sqrt(sums.sum().item<double>());
}

}  // namespace fathom::train
