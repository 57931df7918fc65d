#include "kernels/matmul.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>

#include "kernels/cpu/kernel_table.h"
#include "kernels/matmul_internal.h"

namespace fathom {
namespace {

// Rough costs that only shape the division of work: nanoseconds of one core, near what a 2026 server core reaches.
constexpr double kNsPerByte = 1.0 / 25;
constexpr double kNsPerProduct = 2.0 / 400;

constexpr double kInlineNs = 1500;    // cheaper than waking the other threads
constexpr double kMinPieceNs = 5000;  // about 128 KiB of weights: pieces that a thread streams without interruption
constexpr int kPiecesPerThread = 12;

constexpr int kMaxThreads = 256;

/// Every thread owns a run of pieces: it takes them from the front, in the order of their addresses; a thread that is
/// done takes from the back of another's run.
struct alignas(64) Run {
  std::atomic<uint64_t> bounds{0};  // first << 32 | end

  bool TakeFront(uint32_t* piece) { return Take(true, piece); }
  bool TakeBack(uint32_t* piece) { return Take(false, piece); }

 private:
  bool Take(bool front, uint32_t* piece) {
    uint64_t now = bounds.load(std::memory_order_relaxed);
    for (;;) {
      const uint32_t first = static_cast<uint32_t>(now >> 32), end = static_cast<uint32_t>(now);
      if (first >= end) return false;
      const uint64_t next = front ? now + (uint64_t{1} << 32) : now - 1;
      if (bounds.compare_exchange_weak(now, next, std::memory_order_relaxed)) {
        *piece = front ? first : end - 1;
        return true;
      }
    }
  }
};

double NsPerRow(const MatmulJob& job) {
  return static_cast<double>(job.w.row_bytes) * kNsPerByte +
         static_cast<double>(job.m) * static_cast<double>(job.w.cols) * kNsPerProduct;
}

bool SameRows(const MatmulJob& a, const MatmulJob& b) {
  return a.x == b.x && a.x_col == b.x_col && a.row_index == b.row_index && a.m == b.m &&
         NeedsQuantizedActivations(a.w.dtype) == NeedsQuantizedActivations(b.w.dtype);
}

void CollectRows(std::span<const MatmulJob> jobs, MatmulWorkspace& workspace) {
  workspace.rows.clear();
  workspace.rows_of_job.clear();
  for (size_t j = 0; j < jobs.size(); ++j) {
    const MatmulJob& job = jobs[j];
    if (j > 0 && SameRows(job, jobs[j - 1])) {  // gate and up, Q and K
      workspace.rows_of_job.push_back(workspace.rows_of_job.back());
      continue;
    }
    workspace.rows_of_job.push_back(workspace.rows.size());
    const bool quantized = NeedsQuantizedActivations(job.w.dtype);
    for (int64_t i = 0; i < job.m; ++i) {
      const int64_t row = job.row_index != nullptr ? job.row_index[i] : i;
      assert(row >= 0 && row < job.x->x.rows);
      workspace.rows.push_back(quantized ? static_cast<const void*>(job.x->row(row) + job.x_col / 32)
                                         : static_cast<const void*>(job.x->x.row(row) + job.x_col));
    }
  }
}

/// Cuts all jobs into pieces of whole panels; returns the cost of the whole.
double CutPieces(std::span<const MatmulJob> jobs, int threads, MatmulWorkspace& workspace) {
  workspace.pieces.clear();
  double total = 0;
  for (const MatmulJob& job : jobs) {
    if (job.m > 0) total += NsPerRow(job) * static_cast<double>(job.w.rows);
  }
  const bool together = threads == 1 || total < kInlineNs;
  const double piece_ns = std::max(kMinPieceNs, total / (threads * kPiecesPerThread));
  for (size_t j = 0; j < jobs.size(); ++j) {
    const MatmulJob& job = jobs[j];
    if (job.m == 0 || job.w.rows == 0) continue;
    const double job_ns = NsPerRow(job) * static_cast<double>(job.w.rows);
    const int64_t panels = (job.w.rows + kPanelRows - 1) / kPanelRows;
    const int64_t count = together ? 1 : std::clamp<int64_t>(static_cast<int64_t>(job_ns / piece_ns + 0.5), 1, panels);
    for (int64_t p = 0; p < count; ++p) {
      const int64_t first = panels * p / count * kPanelRows;
      const int64_t end = std::min(panels * (p + 1) / count * kPanelRows, job.w.rows);
      workspace.pieces.push_back(
          {static_cast<int32_t>(j), static_cast<int32_t>(first), static_cast<int32_t>(end - first)});
    }
  }
  return total;
}

void DoPiece(const KernelTable& kernels, const MatmulJob& job, const void* const* rows, int64_t first, int64_t count,
             const std::byte* next) {
  PanelArgs args;
  args.w_stride = job.w.row_bytes;
  args.k = job.w.cols;
  if (NeedsQuantizedActivations(job.w.dtype)) {
    assert(job.x->quantized && job.x_col % 32 == 0);
    args.xq = reinterpret_cast<const ActivationBlock* const*>(rows);
  } else {
    args.xf = reinterpret_cast<const float* const*>(rows);
  }
  args.m = job.m;
  args.ldy = job.ldy;
  const PanelFn panel = kernels.panel(job.w.dtype);
  assert(panel != nullptr);
  // FP8 scales change every 128 rows; other types take the piece as a whole.
  const int64_t step = job.w.scale_inv != nullptr ? 128 : count;
  for (int64_t row = first; row < first + count;) {
    const int64_t end = job.w.scale_inv != nullptr ? std::min(first + count, (row / step + 1) * step) : first + count;
    args.w = reinterpret_cast<const uint8_t*>(job.w.row(row));
    args.n = end - row;
    args.next = reinterpret_cast<const uint8_t*>(end < first + count ? job.w.row(end) : next);
    args.y = job.y + row;
    if (job.w.scale_inv != nullptr) args.scale_inv = job.w.scale_inv + row / 128 * job.w.scale_cols;
    panel(args);
    row = end;
  }
}

}  // namespace

bool NeedsQuantizedActivations(DType dtype) { return TraitsOf(dtype).quantized && dtype != DType::kF8_E4M3; }

Status Activations::Set(MatrixView<const float> view, bool quantize, ThreadPool& pool) {
  return SetActivations(ActiveKernels(), view, quantize, pool, *this);
}

Status SetActivations(const KernelTable& kernels, MatrixView<const float> view, bool quantize, ThreadPool& pool,
                      Activations& out) {
  out.x = view;
  out.rows = view.rows;
  out.cols = view.cols;
  out.groups = (view.cols + 31) / 32;
  out.quantized = quantize;
  if (!quantize || view.rows == 0) return {};
  const size_t bytes = static_cast<size_t>(out.rows) * static_cast<size_t>(out.groups) * sizeof(ActivationBlock);
  if (out.buffer_.size() < bytes) {
    FATHOM_TRY(out.buffer_, AlignedBuffer::Allocate(bytes));
  }
  auto* const blocks = out.buffer_.as<ActivationBlock>();
  out.blocks = blocks;
  // Long rows are cut, so that a single token's row is shared out too; 4096 values take about a microsecond.
  constexpr int64_t kCut = 4096;
  const int64_t cuts = std::max<int64_t>(1, (view.cols + kCut - 1) / kCut);
  pool.ParallelFor(view.rows * cuts, 2, [&](int64_t index, int) {
    const int64_t row = index / cuts, col = index % cuts * kCut;
    kernels.quantize(view.row(row) + col, std::min(kCut, view.cols - col), blocks + row * out.groups + col / 32);
  });
  return {};
}

void MatmulWith(const KernelTable& kernels, std::span<const MatmulJob> jobs, MatmulWorkspace& workspace,
                ThreadPool& pool) {
  const int threads = std::min(pool.size(), kMaxThreads);
  CollectRows(jobs, workspace);
  const double total = CutPieces(jobs, threads, workspace);
  const auto& pieces = workspace.pieces;
  auto do_piece = [&](uint32_t p) {
    const auto& piece = pieces[p];
    const auto& next = p + 1 < pieces.size() ? pieces[p + 1] : pieces[0];
    DoPiece(kernels, jobs[piece.job], workspace.rows.data() + workspace.rows_of_job[piece.job], piece.first,
            piece.count, jobs[next.job].w.row(next.first));
  };
  if (threads == 1 || total < kInlineNs || pieces.size() == 1) {
    for (uint32_t p = 0; p < pieces.size(); ++p) do_piece(p);
    return;
  }

  // Runs of equal cost: pieces are handed to threads in order until each has its share.
  std::array<Run, kMaxThreads> runs;
  size_t next = 0;
  double given = 0;
  for (int t = 0; t < threads; ++t) {
    const size_t first = next;
    const double share = total * (t + 1) / threads;
    while (next < pieces.size() && (t == threads - 1 || given < share)) {
      const double cost = NsPerRow(jobs[pieces[next].job]) * pieces[next].count;
      if (t < threads - 1 && given + cost / 2 > share) break;
      given += cost;
      ++next;
    }
    runs[t].bounds.store(static_cast<uint64_t>(first) << 32 | next, std::memory_order_relaxed);
  }
  pool.RunAnyOf([&](int thread) {
    if (thread >= threads) return;
    uint32_t piece;
    while (runs[thread].TakeFront(&piece)) do_piece(piece);
    for (int other = 1; other < threads; ++other) {
      while (runs[(thread + other) % threads].TakeBack(&piece)) do_piece(piece);
    }
  });
}

void Matmul(std::span<const MatmulJob> jobs, MatmulWorkspace& workspace, ThreadPool& pool) {
  if (workspace.count != nullptr) {
    for (const MatmulJob& job : jobs) {
      if (job.m == 0) continue;
      const double values = static_cast<double>(job.w.rows) * static_cast<double>(job.w.cols);
      workspace.count->bytes += static_cast<double>(job.w.rows) * static_cast<double>(job.w.row_bytes);
      (NeedsQuantizedActivations(job.w.dtype) ? workspace.count->int8 : workspace.count->f32) +=
          2 * values * static_cast<double>(job.m);
    }
  }
  MatmulWith(ActiveKernels(), jobs, workspace, pool);
}

const char* MatmulIsa() { return ActiveKernels().name; }

}  // namespace fathom
