#include "io/thread_io.h"

#include <algorithm>
#include <utility>

#include "base/start_thread.h"

namespace fathom {
namespace {

void Finish(AsyncIoRequest& request, Status status) {
  if (request.done) std::exchange(request.done, nullptr)(std::move(status));
}

Status Perform(const AsyncIoRequest& request) {
  if (request.bytes < 0) return Fail(ErrorCode::kInvalidArgument, "{}: a negative size", request.file->path());
  const auto bytes = static_cast<size_t>(request.bytes);
  return request.write ? request.file->Write(request.offset, {request.memory, bytes})
                       : request.file->Read(request.offset, {request.memory, bytes});
}

}  // namespace

Result<std::unique_ptr<ThreadIo>> ThreadIo::Create(int threads) {
  std::unique_ptr<ThreadIo> io(new ThreadIo(threads));
  FATHOM_TRY(io->supervisor_, StartThread([io = io.get()] { io->SupervisorLoop(); }));
  return io;
}

ThreadIo::~ThreadIo() {
  std::vector<AsyncIoRequest> cancelled;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    cancelled = queue_.TakeAll();
  }
  work_.notify_all();
  watch_.notify_all();
  for (AsyncIoRequest& request : cancelled) Finish(request, Fail(ErrorCode::kCancelled, "I/O was stopped"));
  if (supervisor_.joinable()) supervisor_.join();  // it starts workers, so it goes first
  for (Worker& worker : workers_) {
    if (worker.thread.joinable()) worker.thread.join();
  }
}

void ThreadIo::Submit(std::vector<AsyncIoRequest> requests) {
  bool supervise;
  {
    std::unique_lock lock(mutex_);
    if (stop_) {
      lock.unlock();
      for (AsyncIoRequest& request : requests) Finish(request, Fail(ErrorCode::kCancelled, "I/O was stopped"));
      return;
    }
    const auto count = static_cast<int64_t>(requests.size());
    for (AsyncIoRequest& request : requests) queue_.Push(std::move(request));
    supervise = idle_ < count;
  }
  work_.notify_all();
  if (supervise) watch_.notify_one();
}

bool ThreadIo::StartWorker() {
  workers_.emplace_back();
  Worker& worker = workers_.back();
  auto thread = StartThread([this, &worker] { WorkerLoop(worker); });
  if (!thread) {
    workers_.pop_back();
    return false;
  }
  worker.thread = std::move(*thread);  // it cannot be seen before: the mutex is held
  ++live_;
  return true;
}

void ThreadIo::WorkerLoop(Worker& worker) {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    work_.wait(lock, [&] { return stop_ || queue_.Ready() || live_ > threads_; });
    --idle_;
    auto request = stop_ ? std::nullopt : queue_.Pop();
    if (!request) {
      // Stopped, or one of those that stood in for stuck ones and is not needed any more.
      if (!stop_ && live_ <= threads_) continue;
      worker.gone = true;
      --live_;
      return;
    }
    if (idle_ == 0 && queue_.Ready()) watch_.notify_one();
    worker.running = true;
    worker.since = Clock::now();
    lock.unlock();
    Status status = Perform(*request);
    lock.lock();
    worker.running = false;
    queue_.Finished(request->file);
    if (queue_.Ready()) work_.notify_one();
    lock.unlock();
    Finish(*request, std::move(status));
    request.reset();
    lock.lock();
  }
}

void ThreadIo::SupervisorLoop() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    workers_.remove_if([](Worker& worker) {
      if (worker.gone) worker.thread.join();  // it holds nothing any more
      return worker.gone;
    });
    if (!queue_.Ready() || (idle_ > 0 && live_ >= threads_)) {
      watch_.wait(lock);  // whoever leaves work behind while nobody is idle wakes us
      continue;
    }
    const auto now = Clock::now();
    int stuck = 0;
    auto next = now + kStuck;
    for (const Worker& worker : workers_) {
      if (!worker.running) continue;
      if (now - worker.since >= kStuck) {
        ++stuck;
      } else {
        next = std::min(next, worker.since + kStuck);
      }
    }
    if (live_ - stuck < threads_ && live_ < threads_ * kMostTimes && StartWorker()) continue;
    if (live_ == 0) {
      // Not one thread can be had.
      std::vector<AsyncIoRequest> failed = queue_.TakeAll();
      lock.unlock();
      for (AsyncIoRequest& request : failed)
        Finish(request, Fail(ErrorCode::kResource, "cannot start a thread for I/O"));
      lock.lock();
      continue;
    }
    watch_.wait_until(lock, next);
  }
}

}  // namespace fathom
