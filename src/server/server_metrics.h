// What the server counts and times, and /metrics. Thread-safe.
#pragma once

#include <atomic>
#include <map>
#include <mutex>

#include "engine/service.h"
#include "server/metrics.h"

namespace fathom {

class ServerMetrics {
 public:
  Histogram time_to_first_token{ExponentialBounds(0.001, 2, 20)};  // 1 ms … 524 s
  Histogram inter_token{ExponentialBounds(0.0005, 2, 16)};         // 0.5 ms … 16 s
  Histogram queue{ExponentialBounds(0.001, 2, 20)};
  Histogram load{ExponentialBounds(0.0001, 2, 20)};
  Histogram end_to_end{ExponentialBounds(0.005, 2, 20)};  // 5 ms … 44 min
  Histogram prompt_tokens{ExponentialBounds(16, 2, 17)};  // 16 … 1M
  Histogram output_tokens{ExponentialBounds(1, 2, 17)};

  Counter prompt_total, cached_total, cached_memory_total, cached_disk_total, output_total, reasoning_total;
  Counter disconnected, refused_connections, bytes_sent;
  std::atomic<int64_t> connections{0}, streams{0};

  /// An HTTP answer: route is a pattern of ours, never what a client wrote.
  void CountRequest(std::string_view route, int status);
  /// A finished answer of the model's.
  void CountResult(const ServiceResult& result);

  /// All of it in Prometheus' text format.
  /// promised_bytes: of memory (EngineOptions::promise); 0: nothing was promised.
  std::string Text(const ServiceStats& service, int64_t promised_bytes = 0) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int>, int64_t> requests_;
};

}  // namespace fathom
