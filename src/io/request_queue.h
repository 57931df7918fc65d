// Requests that wait for an AsyncIo, by priority and then in the order they came, with a limit on how many of one file
// run at once, so that a file whose device hangs leaves room for the others.
//
// Not thread-safe. Every operation takes O(log files). Nothing fails.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "io/async_io.h"

namespace fathom {

class RequestQueue {
 public:
  static constexpr int kPriorities = 3;

  /// per_file >= 1.
  explicit RequestQueue(int64_t per_file) : per_file_(per_file) {}

  void Push(AsyncIoRequest request);
  /// Whether Pop would give one.
  bool Ready() const;
  /// The next one that may run; it counts as running until Finished(its file).
  std::optional<AsyncIoRequest> Pop();
  void Finished(const DirectFile* file);
  /// All that wait, most urgent first; what runs goes on.
  std::vector<AsyncIoRequest> TakeAll();
  bool empty() const { return waiting_ == 0; }

 private:
  struct Entry {
    uint64_t number;
    AsyncIoRequest request;
  };
  struct FileState {
    std::array<std::deque<Entry>, kPriorities> waiting;
    int64_t running = 0;
  };
  using Head = std::pair<uint64_t, const DirectFile*>;  // number of a file's first waiting request

  void SetReady(const DirectFile* file, const FileState& state, bool ready);
  void ForgetIfIdle(const DirectFile* file);

  const int64_t per_file_;
  uint64_t next_number_ = 0;
  int64_t waiting_ = 0;
  std::unordered_map<const DirectFile*, FileState> files_;
  std::array<std::set<Head>, kPriorities> ready_;  // heads of files below their limit
};

}  // namespace fathom
