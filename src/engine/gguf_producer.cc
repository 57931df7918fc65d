#include "engine/gguf_producer.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "base/aligned_buffer.h"
#include "base/start_thread.h"
#include "base/thread_pool.h"

namespace fathom {
namespace {

constexpr int64_t kBatchBytes = int64_t{32} << 20;  // made in memory while the one before is written
constexpr int64_t kPieceBytes = int64_t{256} << 10;  // handed to a thread at a time

// Rows of one tensor, to be made at one place of a batch.
struct Piece {
  const ProducedTensor* tensor;
  int64_t row, rows;
  int64_t offset;  // in the batch, bytes
};

// Two buffers: one is filled by the pool while the other one is written.
class Producer {
 public:
  Producer(const std::vector<ProducedTensor>& tensors, const ProduceProgress& progress, GgufWriter& writer)
      : tensors_(tensors), progress_(progress), writer_(writer) {}

  Status Run(int threads) {
    FATHOM_TRY(pool_, ThreadPool::Create(threads));
    int64_t longest = 0;
    for (const auto& tensor : tensors_) {
      total_ += tensor.rows * tensor.row_bytes;
      longest = std::max(longest, tensor.granule * tensor.row_bytes);
    }
    const size_t capacity = static_cast<size_t>(std::max(std::min(kBatchBytes, total_), longest));
    for (auto& buffer : buffers_) {
      FATHOM_TRY(buffer, AlignedBuffer::Allocate(capacity));
    }
    const Status status = Batches(static_cast<int64_t>(capacity));
    // The last write must be over before the buffers go.
    const Status written = Wait();
    return status ? written : status;
  }

 private:
  Status Batches(int64_t capacity) {
    for (int which = 0; !AtEnd(); which ^= 1) {
      AlignedBuffer& buffer = buffers_[which];
      const int64_t bytes = Plan(capacity);
      std::mutex mutex;
      Status filled;
      pool_->ParallelFor(static_cast<int64_t>(pieces_.size()), 1, [&](int64_t i, int) {
        const Piece& piece = pieces_[static_cast<size_t>(i)];
        if (auto status = piece.tensor->fill(piece.row, piece.rows, buffer.data() + piece.offset); !status) {
          const std::lock_guard lock(mutex);
          if (filled) filled = std::move(status);
        }
      });
      FATHOM_CHECK_OK(Wait());
      FATHOM_CHECK_OK(filled);
      auto writing = StartThread([this, &buffer, bytes] {
        written_ = writer_.Append({buffer.data(), static_cast<size_t>(bytes)});
      });
      if (!writing) return std::unexpected(writing.error());
      writing_ = std::move(*writing);
      done_ += bytes;
      if (progress_ && !progress_(done_, total_)) return Fail(ErrorCode::kCancelled, "interrupted");
    }
    return {};
  }

  Status Wait() {
    if (writing_.joinable()) writing_.join();
    return std::exchange(written_, {});
  }
  bool AtEnd() const { return tensor_ == tensors_.size(); }

  // Takes whole granules of rows, in order, until the batch is full.
  int64_t Plan(int64_t capacity) {
    pieces_.clear();
    int64_t offset = 0;
    while (!AtEnd()) {
      const ProducedTensor& tensor = tensors_[tensor_];
      int64_t rows = std::min({tensor.rows - row_, (capacity - offset) / tensor.row_bytes,
                               std::max(tensor.granule, kPieceBytes / tensor.row_bytes)});
      rows -= rows % tensor.granule;
      if (rows == 0) break;
      pieces_.push_back({&tensor, row_, rows, offset});
      offset += rows * tensor.row_bytes;
      row_ += rows;
      if (row_ == tensor.rows) {
        ++tensor_;
        row_ = 0;
      }
    }
    return offset;
  }

  const std::vector<ProducedTensor>& tensors_;
  const ProduceProgress& progress_;
  GgufWriter& writer_;
  std::unique_ptr<ThreadPool> pool_;
  AlignedBuffer buffers_[2];
  std::vector<Piece> pieces_;
  std::thread writing_;  // of the batch before
  Status written_;       // of that thread; read when it has been joined
  size_t tensor_ = 0;
  int64_t row_ = 0, done_ = 0, total_ = 0;
};

}  // namespace

Status ProduceTensors(const std::vector<ProducedTensor>& tensors, int threads, const ProduceProgress& progress,
                      GgufWriter& writer) {
  return Producer(tensors, progress, writer).Run(threads);
}

Status CheckDiskSpace(const std::string& path, int64_t bytes, int64_t reserve_bytes, std::string_view advice) {
  std::error_code error;
  const auto space = std::filesystem::space(DirectoryOf(path), error);
  if (error) return {};  // the writer will say what is wrong with the path
  const auto available = static_cast<int64_t>(std::min<uintmax_t>(space.available, INT64_MAX));
  if (bytes <= available - reserve_bytes) return {};
  return Fail(ErrorCode::kResource, "{}: {:.1f} GB are needed but {:.1f} GB are free ({:.1f} GB are kept)\n{}", path,
              static_cast<double>(bytes) / 1e9, static_cast<double>(available) / 1e9,
              static_cast<double>(reserve_bytes) / 1e9, advice);
}

}  // namespace fathom
