// A small registry of counters and histograms, written out in Prometheus' text format (version 0.0.4,
// prometheus.io/docs/instrumenting/exposition_formats). Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fathom {

class Counter {
 public:
  void Add(int64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

class Histogram {
 public:
  /// bounds: upper bounds of the buckets, ascending; +Inf is added.
  explicit Histogram(std::vector<double> bounds);
  void Observe(double value);
  struct Snapshot {
    std::vector<int64_t> counts;  // of each bucket, not cumulative; one more than bounds
    double sum = 0;
    int64_t total = 0;
  };
  Snapshot Read() const;
  const std::vector<double>& bounds() const { return bounds_; }

 private:
  const std::vector<double> bounds_;
  mutable std::mutex mutex_;
  Snapshot values_;
};

/// From `first`, each `factor` times the one before.
std::vector<double> ExponentialBounds(double first, double factor, int count);

/// Writes metric families; one HELP and TYPE for each name, whatever labels follow. Not thread-safe.
class MetricsText {
 public:
  void Counter(std::string_view name, std::string_view help, double value, std::string_view labels = "");
  void Gauge(std::string_view name, std::string_view help, double value, std::string_view labels = "");
  void Histogram(std::string_view name, std::string_view help, const fathom::Histogram& histogram);
  /// bounds and values as Histogram has them.
  void Histogram(std::string_view name, std::string_view help, std::span<const double> bounds,
                 const fathom::Histogram::Snapshot& values);
  std::string Take() { return std::move(text_); }

  /// `key="value"` with the value escaped.
  static std::string Label(std::string_view key, std::string_view value);

 private:
  void Head(std::string_view name, std::string_view help, std::string_view type);
  void Sample(std::string_view name, std::string_view labels, double value);
  std::string text_, last_;
};

}  // namespace fathom
