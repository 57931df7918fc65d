#include "engine/rate_meter.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/scheduler.h"

namespace fathom {
namespace {

constexpr double kKeep = 0.97;       // of the older sums, every step
constexpr double kBlend = 0.25;      // of a new sample in a mean
constexpr int64_t kEnoughRows = 32;  // fewer rows say more about the step than about a row

size_t Bucket(int64_t rows) {
  return std::min<size_t>(15, static_cast<size_t>(std::bit_width(static_cast<uint64_t>(std::max<int64_t>(0, rows)))));
}

// A mean that follows downward freely and upward in bounds: one step that the machine interrupted should not count for much.
double Blend(double mean, double sample) {
  if (mean <= 0) return sample;
  return mean + kBlend * (std::min(sample, 3 * mean) - mean);
}

}  // namespace

void RateMeter::Fit(const StepSample& sample) {
  // Weighted by 1 / rows, so that every row counts the same whatever the size of its step.
  const double x = static_cast<double>(sample.prefill_rows), z = sample.prefill_positions, y = sample.seconds, w = 1 / x;
  for (double* sum : {&xx_, &xz_, &zz_, &xy_, &zy_}) *sum *= kKeep;
  xx_ += w * x * x;
  xz_ += w * x * z;
  zz_ += w * z * z;
  xy_ += w * x * y;
  zy_ += w * z * y;
  const double determinant = xx_ * zz_ - xz_ * xz_;
  // Steps at one and the same position cannot tell the two apart: then all is put down to the rows.
  double a = xy_ / xx_, b = 0;
  if (determinant > 1e-6 * xx_ * zz_) {
    b = (xx_ * zy_ - xz_ * xy_) / determinant;
    a = (zz_ * xy_ - xz_ * zy_) / determinant;
    if (b < 0) b = 0, a = xy_ / xx_;
    if (a < 0) a = 0, b = zy_ / zz_;
  }
  prefill_.seconds_per_token = a;
  prefill_.seconds_per_token_position = b;
}

void RateMeter::Add(const StepSample& sample) {
  if (!(sample.seconds > 0)) return;
  if (sample.decode_rows == 0 && sample.prefill_rows >= kEnoughRows) Fit(sample);
  const bool plain = sample.draft_rows == 0;  // steps with drafts say nothing about those without
  if (plain && sample.decode_rows > 0 && sample.prefill_rows == 0) {
    const size_t bucket = Bucket(sample.decode_rows);
    decode_[bucket] = Blend(decode_[bucket], sample.seconds);
    decode_samples_[bucket] = std::min(decode_samples_[bucket] + 1, kSeldom);
    mixed_since_[bucket] = 0;
  }
  if (plain && sample.decode_rows > 0 && sample.prefill_rows > 0) {
    int32_t& since = mixed_since_[Bucket(sample.decode_rows)];
    since = std::min(since + 1, kSeldom);
    const double alone = decode_seconds(sample.decode_rows);
    if (alone > 0) {
      const double added = (sample.seconds - alone) / static_cast<double>(sample.prefill_rows);
      // Noise may make this negative; a twentieth of an answer's row is less than it ever is.
      const double least = alone / static_cast<double>(sample.decode_rows) / 20;
      double& mean = sample.prefill_rows >= Scheduler::kManyRows ? added_of_many_ : added_row_;
      mean = Blend(mean, std::max(added, least));
    }
  }
  if (sample.prefill_rows > 0) {
    prefill_rows_ = kKeep * prefill_rows_ + static_cast<double>(sample.prefill_rows);
    prefill_seconds_ = kKeep * prefill_seconds_ + sample.seconds;
  }
  if (sample.decode_rows > 0) {
    decode_rows_ = kKeep * decode_rows_ + static_cast<double>(sample.decode_rows);
    decode_seconds_ = kKeep * decode_seconds_ + sample.seconds;
  }
}

bool RateMeter::WantsDecodeStep(int64_t rows) const {
  const size_t bucket = Bucket(rows);
  return rows > 0 && mixed_since_[bucket] >= std::min(kSeldom, 8 * decode_samples_[bucket]);
}

ComputeRates RateMeter::prefill_beside(int64_t answers) const {
  ComputeRates rates = prefill();
  // Steps of answers last (1 + share) of their time, and share of it is the prompt's.
  constexpr double kSlower = (1 + Scheduler::kExtraShare) / Scheduler::kExtraShare;
  if (answers > 0) rates.seconds_per_token = std::max(rates.seconds_per_token, kSlower * prefill_row_seconds());
  return rates;
}

double RateMeter::decode_seconds(int64_t rows) const {
  const size_t bucket = Bucket(rows);
  if (decode_[bucket] > 0) return decode_[bucket];
  for (size_t away = 1; away < decode_.size(); ++away) {  // the nearest that is known
    if (bucket >= away && decode_[bucket - away] > 0) return decode_[bucket - away];
    if (bucket + away < decode_.size() && decode_[bucket + away] > 0) return decode_[bucket + away];
  }
  return 0;
}

}  // namespace fathom
