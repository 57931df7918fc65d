// DirectFiles that misbehave; see io/fault_env.h.
#include <algorithm>
#include <cstring>
#include <thread>

#include "base/aligned_buffer.h"
#include "io/fault_env.h"

namespace fathom {

class FaultDirectFile : public DirectFile {
 public:
  FaultDirectFile(FaultEnv& env, std::unique_ptr<DirectFile> base) : env_(env), base_(std::move(base)) {}

  Status Read(int64_t offset, std::span<std::byte> out) const override {
    std::map<int64_t, uint8_t> flips;
    {
      std::unique_lock lock(env_.direct_mutex_);
      const int64_t end = offset + static_cast<int64_t>(out.size());
      WaitWhileHung(lock, offset, end);
      DirectFaults& faults = env_.direct_;
      const int64_t call = env_.direct_counts_.reads++;
      const bool bad = (offset < faults.fail_end && end > faults.fail_begin) || (faults.fail_read && faults.fail_read(call));
      if (bad || (faults.fail_reads_from >= 0 && end > faults.fail_reads_from) || !Take(faults.reads_left)) {
        return Injected(faults.read_error, "cannot read");
      }
      if (faults.failing_reads > 0) {
        --faults.failing_reads;
        return Injected(faults.read_error, "cannot read");
      }
      if (faults.short_reads > 0) {
        --faults.short_reads;
        lock.unlock();
        if (out.size() > kAlignment) FATHOM_CHECK_OK(base_->Read(offset, out.first(kAlignment)));
        return Injected(ErrorCode::kCorrupt, "ends too early");
      }
      env_.direct_counts_.bytes_read += end - offset;
      flips = faults.read_xor;
    }
    FATHOM_CHECK_OK(base_->Read(offset, out));
    for (const auto& [at, bits] : flips) {
      if (at >= offset && at - offset < static_cast<int64_t>(out.size())) {
        out[static_cast<size_t>(at - offset)] ^= std::byte{bits};
      }
    }
    return {};
  }

  Status Write(int64_t offset, std::span<const std::byte> bytes) override {
    const auto size = static_cast<int64_t>(bytes.size());
    int64_t arrives = size;
    bool silent;
    {
      std::unique_lock lock(env_.direct_mutex_);
      WaitWhileHung(lock);
      DirectFaults& faults = env_.direct_;
      const int64_t call = env_.direct_counts_.writes++;
      if (faults.drop_write && faults.drop_write(call)) return {};
      if ((faults.fail_writes_from >= 0 && offset + size > faults.fail_writes_from) || !Take(faults.writes_left)) {
        return Injected(faults.write_error, "cannot write");
      }
      if (faults.write_budget >= 0) {
        arrives = std::min(faults.write_budget, size);
        faults.write_budget -= arrives;
      }
      env_.direct_counts_.bytes_written += arrives;
      silent = faults.silent;
    }
    FATHOM_CHECK_OK(WritePrefix(offset, bytes, arrives));
    if (arrives < size && !silent) return Injected(ErrorCode::kIo, "cannot write");
    return {};
  }

  Status Sync() override {
    {
      std::unique_lock lock(env_.direct_mutex_);
      WaitWhileHung(lock);
      ++env_.direct_counts_.syncs;
      if (env_.direct_.fail_sync) return Injected(ErrorCode::kIo, "cannot sync");
    }
    return base_->Sync();
  }

  Status Allocate(int64_t bytes) override {
    {
      std::unique_lock lock(env_.direct_mutex_);
      WaitWhileHung(lock);
      if (env_.direct_.fail_allocate) return Injected(ErrorCode::kResource, "cannot reserve space");
    }
    return base_->Allocate(bytes);
  }

  Status PunchHole(int64_t offset, int64_t bytes) override {
    {
      const std::lock_guard lock(env_.direct_mutex_);
      if (env_.direct_.fail_punch) return Injected(ErrorCode::kUnsupported, "cannot punch a hole");
    }
    return base_->PunchHole(offset, bytes);
  }

  Result<int64_t> Size() const override { return base_->Size(); }
  const std::string& path() const override { return base_->path(); }
  bool is_direct() const override { return base_->is_direct(); }
  int descriptor() const override { return -1; }

 private:
  std::unexpected<Error> Injected(ErrorCode code, const char* what) const {
    return Fail(code, "{}: {}: injected fault", path(), what);
  }

  // One of `left` calls; false when there are none left.
  static bool Take(int64_t& left) {
    if (left == DirectFaults::kNever) return true;
    if (left == 0) return false;
    --left;
    return true;
  }

  // begin, end: the bytes that a read touches.
  void WaitWhileHung(std::unique_lock<std::mutex>& lock, int64_t begin = 0, int64_t end = 0) const {
    const auto delay = env_.direct_.delay;
    ++env_.direct_counts_.waiting;
    env_.direct_changed_.wait(lock, [&] {
      const DirectFaults& faults = env_.direct_;
      return !faults.hang && !(begin < faults.hang_end && end > faults.hang_begin);
    });
    --env_.direct_counts_.waiting;
    if (delay.count() > 0) {
      lock.unlock();
      std::this_thread::sleep_for(delay);
      lock.lock();
    }
  }

  // The first `arrives` bytes, though the file below only takes whole blocks.
  Status WritePrefix(int64_t offset, std::span<const std::byte> bytes, int64_t arrives) {
    const int64_t whole = arrives / kAlignment * kAlignment;
    if (whole > 0) FATHOM_CHECK_OK(base_->Write(offset, bytes.first(static_cast<size_t>(whole))));
    if (whole == arrives) return {};
    FATHOM_TRY(AlignedBuffer buffer, AlignedBuffer::Allocate(2 * kAlignment));
    const auto skip = (kAlignment - static_cast<int64_t>(reinterpret_cast<uintptr_t>(buffer.data()) % kAlignment));
    const std::span<std::byte> block(buffer.data() + skip % kAlignment, kAlignment);
    FATHOM_CHECK_OK(base_->Read(offset + whole, block));
    std::memcpy(block.data(), bytes.data() + whole, static_cast<size_t>(arrives - whole));
    return base_->Write(offset + whole, block);
  }

  FaultEnv& env_;
  const std::unique_ptr<DirectFile> base_;
};

Result<std::unique_ptr<DirectFile>> FaultEnv::OpenDirect(const std::string& path, const DirectOpenOptions& options) {
  if (!Applies(path)) return base_.OpenDirect(path, options);
  if (faults.fail_open) return Fail(ErrorCode::kIo, "{}: cannot open: injected fault", path);
  FATHOM_TRY(auto file, base_.OpenDirect(path, options));
  return std::make_unique<FaultDirectFile>(*this, std::move(file));
}

void FaultEnv::ChangeDirect(const std::function<void(DirectFaults&)>& change) {
  {
    const std::lock_guard lock(direct_mutex_);
    change(direct_);
  }
  direct_changed_.notify_all();
}

DirectCounts FaultEnv::direct_counts() const {
  const std::lock_guard lock(direct_mutex_);
  return direct_counts_;
}

}  // namespace fathom
