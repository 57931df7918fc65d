#include "server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace fathom {

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)) {
  values_.counts.resize(bounds_.size() + 1);
}

void Histogram::Observe(double value) {
  const auto bucket = static_cast<size_t>(std::ranges::lower_bound(bounds_, value) - bounds_.begin());
  const std::lock_guard lock(mutex_);
  ++values_.counts[bucket];
  values_.sum += value;
  ++values_.total;
}

Histogram::Snapshot Histogram::Read() const {
  const std::lock_guard lock(mutex_);
  return values_;
}

std::vector<double> ExponentialBounds(double first, double factor, int count) {
  std::vector<double> bounds;
  for (int i = 0; i < count; ++i, first *= factor) bounds.push_back(first);
  return bounds;
}

namespace {

std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  if (value == std::floor(value) && std::fabs(value) < 1e15) return fmt::format("{}", static_cast<int64_t>(value));
  return fmt::format("{:.9g}", value);
}

}  // namespace

void MetricsText::Head(std::string_view name, std::string_view help, std::string_view type) {
  if (last_ == name) return;
  last_ = name;
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void MetricsText::Sample(std::string_view name, std::string_view labels, double value) {
  text_ += name;
  if (!labels.empty()) text_.append("{").append(labels).append("}");
  text_.append(" ").append(Number(value)).append("\n");
}

void MetricsText::Counter(std::string_view name, std::string_view help, double value, std::string_view labels) {
  Head(name, help, "counter");
  Sample(name, labels, value);
}

void MetricsText::Gauge(std::string_view name, std::string_view help, double value, std::string_view labels) {
  Head(name, help, "gauge");
  Sample(name, labels, value);
}

void MetricsText::Histogram(std::string_view name, std::string_view help, const fathom::Histogram& histogram) {
  Histogram(name, help, histogram.bounds(), histogram.Read());
}

void MetricsText::Histogram(std::string_view name, std::string_view help, std::span<const double> bounds,
                            const fathom::Histogram::Snapshot& values) {
  Head(name, help, "histogram");
  int64_t below = 0;
  const std::string bucket = std::string(name) + "_bucket";
  for (size_t i = 0; i < values.counts.size(); ++i) {
    below += values.counts[i];
    const std::string bound = i < bounds.size() ? Number(bounds[i]) : "+Inf";
    Sample(bucket, Label("le", bound), static_cast<double>(below));
  }
  Sample(std::string(name) + "_sum", "", values.sum);
  Sample(std::string(name) + "_count", "", static_cast<double>(values.total));
}

std::string MetricsText::Label(std::string_view key, std::string_view value) {
  std::string out(key);
  out += "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') out += "\\n";
    else out += c;
  }
  return out + '"';
}

}  // namespace fathom
