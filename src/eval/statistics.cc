#include "eval/statistics.h"

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {
constexpr double kZ = 1.959963984540054;  // 97.5 % point of the normal distribution
}  // namespace

Estimate WilsonInterval(double sum, int64_t n) {
  if (n <= 0) return {};
  const auto count = static_cast<double>(n);
  const double p = std::clamp(sum / count, 0.0, 1.0);
  const double scale = 1 / (1 + kZ * kZ / count);
  const double center = (p + kZ * kZ / (2 * count)) * scale;
  const double half = kZ * scale * std::sqrt(p * (1 - p) / count + kZ * kZ / (4 * count * count));
  // At 0 and 1 rounding must not leave the value outside its own interval.
  return {p, std::clamp(center - half, 0.0, p), std::clamp(center + half, p, 1.0), n};
}

Estimate MeanOfEstimates(std::span<const Estimate> parts) {
  double sum = 0, below = 0, above = 0;
  int64_t known = 0, n = 0;
  for (const Estimate& part : parts) {
    if (part.n == 0) continue;
    sum += part.value;
    below += (part.value - part.low) * (part.value - part.low);
    above += (part.high - part.value) * (part.high - part.value);
    n += part.n;
    ++known;
  }
  if (known == 0) return {};
  const auto count = static_cast<double>(known);
  const double mean = sum / count;
  return {mean, std::max(0.0, mean - std::sqrt(below) / count), std::min(1.0, mean + std::sqrt(above) / count), n};
}

}  // namespace fathom
