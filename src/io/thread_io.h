// AsyncIo with threads that call DirectFile::Read and Write; also what the io_uring one hands to (files without a
// descriptor, requests that the kernel refuses).
//
// Threads are started when there is work for them. One that sits in the same call for longer than kStuck no longer
// counts, and another takes its place, so that a hung file holds up nobody but itself.
#pragma once

#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "io/async_io.h"
#include "io/request_queue.h"

namespace fathom {

class ThreadIo : public AsyncIo {
 public:
  static constexpr std::chrono::milliseconds kStuck{100};
  static constexpr int kMostTimes = 16;  // threads, at most, over those asked for

  static Result<std::unique_ptr<ThreadIo>> Create(int threads);
  ~ThreadIo() override;

  void Submit(std::vector<AsyncIoRequest> requests) override;
  void Register(std::span<std::byte>) override {}
  std::string_view kind() const override { return "threads"; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Worker {
    std::thread thread;
    Clock::time_point since;  // of the request that it is at
    bool running = false;
    bool gone = false;
  };

  explicit ThreadIo(int threads) : threads_(threads), queue_(threads) {}
  void WorkerLoop(Worker& worker);
  void SupervisorLoop();
  bool StartWorker();  // REQUIRES: mutex_ held

  const int threads_;
  std::mutex mutex_;
  std::condition_variable work_;   // for workers
  std::condition_variable watch_;  // for the supervisor
  RequestQueue queue_;
  std::list<Worker> workers_;
  int live_ = 0;  // workers that have not gone
  int idle_ = 0;
  bool stop_ = false;
  std::thread supervisor_;
};

}  // namespace fathom
