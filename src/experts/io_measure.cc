#include "experts/io_measure.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "base/aligned_buffer.h"
#include "experts/model_files.h"
#include "io/async_io.h"
#include "io/page_cache.h"

namespace fathom {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPiece = int64_t{2} << 20;
constexpr int kPieces = 8;             // in flight
constexpr int64_t kMostExperts = 512;  // half of them for either way
constexpr int kTurns = 2;

double SecondsSince(Clock::time_point since) { return std::chrono::duration<double>(Clock::now() - since).count(); }

struct Piece {
  int32_t file = 0;
  int64_t offset = 0, bytes = 0;
};

/// The pieces of an expert's reads, but for what lies in a file's last page.
void AddPieces(const ExpertLayout& layout, const ModelFiles& files, ExpertId id, std::vector<Piece>& pieces) {
  for (const ExpertRead& read : layout.Reads(id)) {
    const int64_t bytes = files.Readable(read.file, read.offset, read.bytes);
    for (int64_t at = 0; at < bytes; at += kPiece)
      pieces.push_back({read.file, read.offset + at, std::min(kPiece, bytes - at)});
  }
}

/// Whether there is enough to tell anything from.
bool Enough(std::span<const Piece> pieces) {
  int64_t bytes = 0;
  for (const Piece& piece : pieces) bytes += piece.bytes;
  return bytes >= kLeastIoBytes;
}

/// Whether none of an expert is in the page cache.
Result<bool> IsCold(const ExpertLayout& layout, ExpertId id) {
  for (const ExpertRead& read : layout.Reads(id)) {
    FATHOM_TRY(const int64_t cached, CachedBytes(layout.files()[read.file], read.offset, read.bytes));
    if (cached > 0) return false;
  }
  return true;
}

/// Reads pieces in order, as many in flight as there are buffers.
class Reader {
 public:
  Reader(AsyncIo& io, std::byte* memory) : io_(io) {
    for (int i = 0; i < kPieces; ++i) free_.push_back(memory + i * kPiece);
  }

  struct Tally {
    double seconds = 0;
    int64_t bytes = 0;
    size_t next = 0;  // the first piece that was not read
    double rate() const { return seconds > 0 ? static_cast<double>(bytes) / seconds : 0; }
  };

  /// Goes on with `tally` for so many seconds, and until what was begun is there.
  Status Read(const ModelFiles& files, std::span<const Piece> pieces, double seconds, Tally& tally) {
    const auto begun = Clock::now();
    std::unique_lock lock(mutex_);
    while (tally.next < pieces.size() && SecondsSince(begun) < seconds && status_) {
      if (free_.empty()) {
        changed_.wait(lock);
        continue;
      }
      const Piece& piece = pieces[tally.next++];
      tally.bytes += piece.bytes;
      std::byte* const memory = free_.back();
      free_.pop_back();
      lock.unlock();
      AsyncIoRequest request{.file = files.file(piece.file), .offset = piece.offset, .memory = memory, .bytes = piece.bytes};
      request.done = [this, memory](Status status) {
        const std::lock_guard guard(mutex_);
        if (!status && status_) status_ = std::move(status);
        free_.push_back(memory);
        changed_.notify_one();
      };
      std::vector<AsyncIoRequest> one;
      one.push_back(std::move(request));
      io_.Submit(std::move(one));
      lock.lock();
    }
    changed_.wait(lock, [&] { return free_.size() == kPieces; });
    tally.seconds += SecondsSince(begun);
    return status_;
  }

 private:
  AsyncIo& io_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::byte*> free_;
  Status status_;
};

}  // namespace

Result<IoMeasured> MeasureIo(const ExpertLayout& layout, Env& env) {
  IoMeasured measured{.expert_bytes = layout.total_bytes()};
  FATHOM_TRY(const auto direct, ModelFiles::Open(env, layout.files(), true));
  measured.can_direct = direct->direct();
  if (!measured.can_direct) return measured;
  FATHOM_TRY(const auto buffered, ModelFiles::Open(env, layout.files(), false));

  std::vector<Piece> past, cold, held;
  const int64_t count = layout.geometry().count(), chosen = std::min(count, kMostExperts);
  for (int64_t i = 0; i < chosen; ++i) {
    const auto id = static_cast<ExpertId>(i * count / chosen);
    if (i % 2 == 0) {
      AddPieces(layout, *direct, id, past);
      continue;
    }
    FATHOM_TRY(const bool is_cold, IsCold(layout, id));
    AddPieces(layout, *buffered, id, is_cold ? cold : held);
  }

  if (!Enough(past)) past.clear();
  if (!Enough(cold)) cold.clear();
  if (!Enough(held)) held.clear();

  FATHOM_TRY(AlignedBuffer memory, AlignedBuffer::Allocate(static_cast<size_t>(kPieces * kPiece)));
  FATHOM_TRY(const auto io, AsyncIo::Create({.depth = kPieces, .threads = kPieces}));
  Reader reader(*io, memory.data());
  Reader::Tally of_past, of_cold, of_warm;
  Status status;
  for (int turn = 0; turn < kTurns && status; ++turn) {
    status = reader.Read(*direct, past, kIoSeconds / kTurns, of_past);
    if (status) status = reader.Read(*buffered, cold, kIoSeconds / kTurns, of_cold);
  }
  // What has just been read is warm now; where nothing was cold, what is held anyway.
  const auto warm = cold.empty() ? std::span<const Piece>(held) : std::span<const Piece>(cold).first(of_cold.next);
  if (status) status = reader.Read(*buffered, warm, kIoWarmSeconds, of_warm);
  for (const Piece& piece : std::span(cold).first(of_cold.next))
    (void)DropCached(layout.files()[piece.file], piece.offset, piece.bytes);  // a wish
  if (!status) return std::unexpected(status.error());
  measured.direct_rate = of_past.rate();
  measured.cold_rate = of_cold.rate();
  measured.warm_rate = of_warm.rate();
  return measured;
}

}  // namespace fathom
