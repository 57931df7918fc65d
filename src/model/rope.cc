#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fathom {
namespace {

// Dimension whose wavelength fits `rotations` times into the original context (YaRN, eq. 14 ff.).
double CorrectionDim(double rotations, const RopeConfig& config) {
  return config.dim * std::log(config.original_max_position_embeddings / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(config.theta));
}

void ApplyYarn(const RopeConfig& config, std::vector<float>& frequencies) {
  double low = std::max(0.0, std::floor(CorrectionDim(config.beta_fast, config)));
  double high = std::min<double>(config.dim - 1, std::ceil(CorrectionDim(config.beta_slow, config)));
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = static_cast<float>(frequencies[i] / config.factor * ramp + frequencies[i] * (1 - ramp));
  }
}

void ApplyLlama3(const RopeConfig& config, std::vector<float>& frequencies) {
  const double low_wavelength = config.original_max_position_embeddings / config.low_freq_factor;
  const double high_wavelength = config.original_max_position_embeddings / config.high_freq_factor;
  for (float& frequency : frequencies) {
    const double wavelength = 2 * std::numbers::pi / frequency;
    if (wavelength < high_wavelength) continue;
    double scaled = frequency / config.factor;
    if (wavelength <= low_wavelength) {
      const double smooth = (config.original_max_position_embeddings / wavelength - config.low_freq_factor) /
                            (config.high_freq_factor - config.low_freq_factor);
      scaled = (1 - smooth) * frequency / config.factor + smooth * frequency;
    }
    frequency = static_cast<float>(scaled);
  }
}

}  // namespace

float YarnMscale(float factor, float mscale) {
  return factor <= 1.0f ? 1.0f : 0.1f * mscale * std::log(factor) + 1.0f;
}

RopeTable::RopeTable(const RopeConfig& config, bool deepseek) : frequencies_(config.dim / 2) {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / config.dim;
    frequencies_[i] = static_cast<float>(1.0 / std::pow(static_cast<double>(config.theta), exponent));
    if (!config.freq_factors.empty()) frequencies_[i] /= config.freq_factors[i];
  }
  switch (config.scaling) {
    case RopeScaling::kNone:
      break;
    case RopeScaling::kLinear:
      for (float& frequency : frequencies_) frequency /= config.factor;
      break;
    case RopeScaling::kLlama3:
      ApplyLlama3(config, frequencies_);
      break;
    case RopeScaling::kYarn:
      ApplyYarn(config, frequencies_);
      if (deepseek) {
        const float all_dim = YarnMscale(config.factor, config.mscale_all_dim);
        const float ratio = YarnMscale(config.factor, config.mscale) / all_dim;
        magnitude_ = config.attention_factor > 0 ? config.attention_factor : ratio;
        softmax_factor_ = all_dim * all_dim;
      } else {
        magnitude_ = config.attention_factor > 0 ? config.attention_factor : YarnMscale(config.factor, 1.0f);
      }
      break;
  }
}

void RopeTable::Fill(int64_t position, float* cos, float* sin) const {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const float angle = static_cast<float>(position) * frequencies_[i];
    cos[i] = std::cos(angle) * magnitude_;
    sin[i] = std::sin(angle) * magnitude_;
  }
}

}  // namespace fathom
