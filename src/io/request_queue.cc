#include "io/request_queue.h"

#include <algorithm>

namespace fathom {

void RequestQueue::Push(AsyncIoRequest request) {
  const int priority = std::min<int>(request.priority, kPriorities - 1);
  const DirectFile* file = request.file;
  FileState& state = files_[file];
  auto& waiting = state.waiting[priority];
  if (waiting.empty() && state.running < per_file_) ready_[priority].emplace(next_number_, file);
  waiting.push_back({next_number_++, std::move(request)});
  ++waiting_;
}

bool RequestQueue::Ready() const {
  return std::any_of(ready_.begin(), ready_.end(), [](const auto& heads) { return !heads.empty(); });
}

std::optional<AsyncIoRequest> RequestQueue::Pop() {
  for (int priority = 0; priority < kPriorities; ++priority) {
    if (ready_[priority].empty()) continue;
    const DirectFile* file = ready_[priority].begin()->second;
    FileState& state = files_.find(file)->second;
    SetReady(file, state, false);
    std::optional<AsyncIoRequest> request(std::move(state.waiting[priority].front().request));
    state.waiting[priority].pop_front();
    --waiting_;
    if (++state.running < per_file_) SetReady(file, state, true);
    return request;
  }
  return std::nullopt;
}

void RequestQueue::Finished(const DirectFile* file) {
  FileState& state = files_.find(file)->second;
  if (state.running-- == per_file_) SetReady(file, state, true);
  ForgetIfIdle(file);
}

std::vector<AsyncIoRequest> RequestQueue::TakeAll() {
  std::vector<AsyncIoRequest> all;
  for (int priority = 0; priority < kPriorities; ++priority) {
    std::vector<Entry> entries;
    for (auto& [file, state] : files_) {
      for (Entry& entry : state.waiting[priority]) entries.push_back(std::move(entry));
      state.waiting[priority].clear();
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.number < b.number; });
    for (Entry& entry : entries) all.push_back(std::move(entry.request));
    ready_[priority].clear();
  }
  std::erase_if(files_, [](const auto& file) { return file.second.running == 0; });
  waiting_ = 0;
  return all;
}

void RequestQueue::SetReady(const DirectFile* file, const FileState& state, bool ready) {
  for (int priority = 0; priority < kPriorities; ++priority) {
    if (state.waiting[priority].empty()) continue;
    const Head head(state.waiting[priority].front().number, file);
    if (ready) {
      ready_[priority].insert(head);
    } else {
      ready_[priority].erase(head);
    }
  }
}

void RequestQueue::ForgetIfIdle(const DirectFile* file) {
  const FileState& state = files_.find(file)->second;
  if (state.running > 0) return;
  for (const auto& waiting : state.waiting) {
    if (!waiting.empty()) return;
  }
  files_.erase(file);
}

}  // namespace fathom
