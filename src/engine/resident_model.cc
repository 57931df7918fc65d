#include "engine/resident_model.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "experts/same_files.h"
#include "format/tensor_role.h"
#include "io/async_io.h"
#include "io/left_behind.h"
#include "io/page_buffer.h"

namespace fathom {
namespace {

constexpr int64_t kPage = DirectFile::kAlignment;
// Runs closer together than this are one: reading a little in vain is sooner than another read, but it stays in memory.
constexpr int64_t kGap = int64_t{16} << 10;
constexpr int64_t kPiece = int64_t{4} << 20;
constexpr int kInFlight = 8;
constexpr int kTries = 3;
constexpr int64_t kLeastForRate = int64_t{64} << 20;
constexpr int64_t kReadAhead = int64_t{16} << 20;  // more than kernels read around a page that is touched

int64_t Down(int64_t offset) { return offset / kPage * kPage; }
int64_t Up(int64_t offset) { return Down(offset + kPage - 1); }

bool Wanted(const ModelFile& file, const TensorInfo& tensor, const ResidentChoice& choice) {
  if (tensor.bytes == 0) return false;
  switch (RoleOf(file.config(), tensor.name)) {
    case TensorRole::kRoutedExpert: return choice.experts;
    case TensorRole::kMtp: return choice.mtp;
    default: return true;
  }
}

}  // namespace

std::vector<ResidentModel::Run> ResidentModel::Runs(const ModelFile& file, const ResidentChoice& choice) {
  std::vector<const TensorInfo*> wanted;
  for (const TensorInfo& tensor : file.tensors())
    if (Wanted(file, tensor, choice)) wanted.push_back(&tensor);
  std::sort(wanted.begin(), wanted.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->file, a->offset) < std::pair(b->file, b->offset);
  });
  std::vector<Run> runs;
  for (const TensorInfo* tensor : wanted) {
    const int64_t begin = Down(tensor->offset), end = Up(tensor->offset + tensor->bytes);
    if (!runs.empty() && runs.back().file == tensor->file && begin <= runs.back().offset + runs.back().bytes + kGap) {
      runs.back().bytes = std::max(runs.back().bytes, end - runs.back().offset);
    } else {
      runs.push_back({tensor->file, begin, end - begin, 0});
    }
  }
  int64_t at = 0;
  for (Run& run : runs) {
    run.at = at;
    at += run.bytes;
  }
  return runs;
}

int64_t ResidentModel::BytesOf(const ModelFile& file, const ResidentChoice& choice) {
  int64_t bytes = 0;
  for (const Run& run : Runs(file, choice)) bytes += run.bytes;
  return bytes;
}

Result<std::unique_ptr<ResidentModel>> ResidentModel::Load(std::unique_ptr<ModelFile> file, Env& env,
                                                           const ResidentChoice& choice,
                                                           const std::function<bool(int64_t, int64_t)>& progress) {
  auto model = std::make_unique<ResidentModel>();
  model->file_ = std::move(file);
  FATHOM_TRY(model->files_, ModelFiles::Open(env, model->file_->files(), true));
  FATHOM_CHECK_OK(model->file_->CheckUnchanged());  // what was opened then is as it was,
  FATHOM_CHECK_OK(CheckSameFiles(*model->file_, *model->files_));  // and what was opened now is the same
  const std::vector<Run> runs = Runs(*model->file_, choice);
  const int64_t bytes = runs.empty() ? 0 : runs.back().at + runs.back().bytes;
  FATHOM_TRY(model->memory_, AlignedBuffer::Allocate(static_cast<size_t>(std::max(bytes, int64_t{2} << 20))));
  FATHOM_CHECK_OK(model->ReadRuns(runs, choice.stall_limit, progress));
  FATHOM_CHECK_OK(model->files_->CheckUnchanged());

  model->tensors_.assign(model->file_->tensors().begin(), model->file_->tensors().end());
  for (size_t i = 0; i < model->tensors_.size(); ++i) {
    TensorInfo& tensor = model->tensors_[i];
    model->index_.emplace(tensor.name, i);
    if (!Wanted(*model->file_, tensor, choice)) continue;
    // A Hugging Face tensor that lies askew has been copied to where it can be read.
    const int64_t element = TraitsOf(tensor.dtype).quantized ? 1 : TraitsOf(tensor.dtype).block_bytes;
    if (model->file_->format() == ModelFormat::kHuggingFace && tensor.offset % element != 0) continue;
    // The last run that begins at or before the tensor.
    const auto after = std::upper_bound(runs.begin(), runs.end(), tensor, [](const TensorInfo& t, const Run& run) {
      return std::pair(t.file, t.offset) < std::pair(run.file, run.offset);
    });
    const Run& run = *std::prev(after);
    tensor.data = model->memory_.data() + run.at + (tensor.offset - run.offset);
  }
  DropHeaders(*model->file_);
  if (!model->direct()) {
    for (const Run& run : runs) model->file_->Advise({.bytes = run.bytes, .file = run.file, .offset = run.offset}, MapAdvice::kDrop);
  }
  return model;
}

/// What reads under way refer to; destroyed when they have ended. The ring goes first.
struct ResidentModel::Reading {
  using Clock = std::chrono::steady_clock;
  struct Piece {
    AsyncIoRequest request;
    int tries = 0;
  };

  void Completed(size_t index, Status status) {
    const std::lock_guard lock(mutex);
    --in_flight;
    answered = Clock::now();
    // Short reads are tried again too: a file that was cut is as short the next time.
    const ErrorCode code = status ? ErrorCode::kInternal : status.error().code;
    const bool may_help = code == ErrorCode::kIo || code == ErrorCode::kResource || code == ErrorCode::kCorrupt;
    if (status) {
      done += pieces[index].request.bytes;
    } else if (may_help && so_far && ++pieces[index].tries < kTries) {
      again.push_back(index);
    } else if (so_far) {
      so_far = std::move(status);
    }
    changed.notify_all();
  }
  bool More() const { return so_far && in_flight < kInFlight && (!again.empty() || next < pieces.size()); }

  AlignedBuffer memory;               // while left behind
  std::unique_ptr<ModelFiles> files;  // the same
  std::vector<Piece> pieces;
  std::mutex mutex;
  std::condition_variable changed;
  size_t next = 0;
  std::vector<size_t> again;
  int in_flight = 0;
  int64_t done = 0;
  Status so_far;
  Clock::time_point answered = Clock::now();  // or asked while the disk had nothing to do
  std::unique_ptr<AsyncIo> io;
};

Status ResidentModel::ReadRuns(const std::vector<Run>& runs, std::chrono::milliseconds stall_limit,
                               const std::function<bool(int64_t, int64_t)>& progress) {
  auto reading = std::make_shared<Reading>();
  Reading& r = *reading;
  int64_t total = 0;
  for (const Run& run : runs) {
    const int64_t readable = files_->Readable(run.file, run.offset, run.bytes);
    for (int64_t at = 0; at < readable; at += kPiece) {
      r.pieces.push_back({{.file = files_->file(run.file),
                           .offset = run.offset + at,
                           .memory = memory_.data() + run.at + at,
                           .bytes = std::min(kPiece, readable - at)}});
      total += r.pieces.back().request.bytes;
    }
    files_->CopyTail(run.file, run.offset, run.bytes, memory_.data() + run.at);
  }
  FATHOM_TRY(r.io, AsyncIo::Create({.depth = kInFlight, .threads = 4}));
  const auto start = Reading::Clock::now();
  const auto poll = std::clamp<Reading::Clock::duration>(stall_limit / 20, std::chrono::milliseconds(1),
                                                         std::chrono::milliseconds(500));
  int64_t told = 0;
  std::unique_lock lock(r.mutex);
  while (r.so_far ? r.done < total : r.in_flight > 0) {
    std::vector<AsyncIoRequest> requests;
    while (r.More()) {
      const size_t index = r.again.empty() ? r.next++ : r.again.back();
      if (!r.again.empty()) r.again.pop_back();
      AsyncIoRequest request = r.pieces[index].request;
      request.done = [&r, index](Status status) { r.Completed(index, std::move(status)); };
      requests.push_back(std::move(request));
      if (r.in_flight++ == 0) r.answered = Reading::Clock::now();
    }
    lock.unlock();
    if (!requests.empty()) r.io->Submit(std::move(requests));
    lock.lock();
    r.changed.wait_for(lock, poll, [&] { return r.in_flight == 0 || r.done > told || r.More(); });
    const auto silent = Reading::Clock::now() - r.answered;
    if (r.in_flight > 0 && silent >= stall_limit) {
      const std::string& path = files_->file(0)->path();
      const double seconds = std::chrono::duration<double>(silent).count();
      r.memory = std::move(memory_);
      r.files = std::move(files_);
      const Status so_far = r.so_far;
      const Status stalled = Fail(ErrorCode::kIo, "{}: the disk has not answered any read for {:.1f} s", path, seconds);
      lock.unlock();
      LeaveBehind(std::move(reading));
      return so_far ? stalled : so_far;
    }
    told = r.done;
    lock.unlock();
    const bool on = !progress || progress(told, total);
    lock.lock();
    if (!on && r.so_far) r.so_far = Fail(ErrorCode::kCancelled, "interrupted");
  }
  if (!r.so_far) return r.so_far;
  const double seconds = std::chrono::duration<double>(Reading::Clock::now() - start).count();
  if (total >= kLeastForRate && seconds > 0) read_rate_ = static_cast<double>(total) / seconds;
  return {};
}

void ResidentModel::DropHeaders(const ModelFile& file) {
  // They lie before the first tensor, with what the kernel read around them.
  for (int32_t f = 0; f < static_cast<int32_t>(file.files().size()); ++f) {
    int64_t first = INT64_MAX, end = 0;
    for (const TensorInfo& tensor : file.tensors()) {
      if (tensor.file != f) continue;
      first = std::min(first, tensor.offset);
      end = std::max(end, tensor.offset + tensor.bytes);
    }
    if (end > 0) file.Advise({.bytes = std::min(end, first + kReadAhead), .file = f}, MapAdvice::kDrop);
  }
}

const TensorInfo* ResidentModel::Find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Status ResidentModel::Read(const TensorInfo& tensor, int64_t offset, std::span<std::byte> out) const {
  const auto inside = [&](const std::byte* at) {
    return !std::less<>()(at, memory_.data()) && std::less<>()(at, memory_.data() + memory_.size());
  };
  if (inside(tensor.data)) return ModelFile::Read(tensor, offset, out);
  const int64_t begin = Down(tensor.offset + offset), end = Up(tensor.offset + offset + static_cast<int64_t>(out.size()));
  FATHOM_TRY(PageBuffer pages, PageBuffer::Allocate(end - begin));
  const int64_t readable = files_->Readable(tensor.file, begin, end - begin);
  if (readable > 0) {
    FATHOM_CHECK_OK(files_->file(tensor.file)->Read(begin, pages.span().first(static_cast<size_t>(readable))));
  }
  files_->CopyTail(tensor.file, begin, end - begin, pages.data());
  std::memcpy(out.data(), pages.data() + (tensor.offset + offset - begin), out.size());
  return {};
}

bool ResidentModel::direct() const {
  for (int32_t f = 0; f < static_cast<int32_t>(file_->files().size()); ++f)
    if (!files_->file(f)->is_direct()) return false;
  return true;
}

}  // namespace fathom
