#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "kernels/attention_core.h"

namespace fathom {
namespace {

using attention::Core;
using attention::kBlockRows;
using attention::kLanes;
using attention::kPair;
using attention::Shape;

// Tiles that one work item carries through the context together: they share each block's preparation, and their queries
// and outputs (for MLA 18 + 32 KiB each) stay in L2 beside the block and the next one.
constexpr int64_t kTilesPerItem = 16;
// A context is computed in segments whose ends depend on positions alone, each with a softmax of its own, and merged in
// order: so a row's result has the same bits whether its segments were one thread's or many threads' work, and whatever
// else is in the batch. Short ones first, so that a short context has work for several threads too.
constexpr int64_t kShortSegment = 256, kLongSegment = 1024, kLongFrom = 2048;

int64_t SegmentEnd(int64_t row) {
  const int64_t length = row < kLongFrom ? kShortSegment : kLongSegment;
  return (row / length + 1) * length;
}

// A run of tiles of one key head of one job, over a range of rows.
struct Item {
  const AttentionJob* job;
  int64_t kv_head;
  int64_t first_lane, lanes;  // flattened (token, head in group)
  int64_t begin_row, end_row;
  int64_t partial;  // index of the first tile's partial result; -1: writes the output itself
};

Shape ShapeOf(const AttentionJob& job, int64_t kv_head) {
  return {job.kv.dtype, job.k_dim, job.v_dim, job.kv.row_bytes, kv_head * job.k_dim,
          job.kv.v_begin + kv_head * job.v_dim, job.kv.row()};
}

// FATHOM_ATTENTION=portable|bf16 in the environment lowers the arithmetic (for tests and comparisons).
enum class Arithmetic { kPortable, kBf16, kInt8 };
Arithmetic Allowed() {
  static const Arithmetic allowed = [] {
    const char* text = std::getenv("FATHOM_ATTENTION");
    if (text == nullptr) return Arithmetic::kInt8;
    return std::strcmp(text, "portable") == 0 ? Arithmetic::kPortable
           : std::strcmp(text, "bf16") == 0   ? Arithmetic::kBf16
                                              : Arithmetic::kInt8;
  }();
  return allowed;
}

const Core& ChooseCore(const AttentionJob& job) {
  if (Allowed() == Arithmetic::kPortable) return attention::PortableCore();
  if (job.int8 && job.kv_heads == 1 && Allowed() == Arithmetic::kInt8 &&
      attention::Int8CoreTakes(ShapeOf(job, 0)))
    if (const Core* core = attention::Int8Core()) return *core;
  if ((job.kv.dtype == DType::kBF16 || KvRowFormat::IsPacked(job.kv.dtype)) && job.k_dim % 2 == 0)
    if (const Core* core = attention::Bf16Core()) return *core;
  return attention::PortableCore();
}

int64_t Round64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// State of one tile: output, running maximum and sum, positions its lanes may see.
struct TileState {
  float* out;  // [v_dim][16]
  float* max;
  float* sum;
  int32_t* limit;
};

int64_t StateBytes(int64_t v_dim) { return (v_dim + 3) * kLanes * 4; }

TileState StateAt(std::byte* memory, int64_t v_dim) {
  float* out = reinterpret_cast<float*>(memory);
  float* max = out + v_dim * kLanes;
  return {out, max, max + kLanes, reinterpret_cast<int32_t*>(max + 2 * kLanes)};
}

struct ScratchLayout {
  int64_t queries, states, block, scores, total;
};

ScratchLayout Layout(const Core& core, const Shape& shape) {
  ScratchLayout layout;
  layout.queries = 0;
  layout.states = Round64(kTilesPerItem * core.query_bytes(shape));
  layout.block = layout.states + 2 * kTilesPerItem * StateBytes(shape.v_dim);  // of the whole, of the segment at hand
  layout.scores = layout.block + Round64(core.block_bytes(shape));
  layout.total = layout.scores + kPair * kBlockRows * kLanes * 4;
  return layout;
}

// Values [begin, begin + count) of a tile's outputs.
void WriteOutput(const Core& core, const Item& item, int64_t tile, const float* out, const float* sum, int64_t begin,
                 int64_t count) {
  const AttentionJob& job = *item.job;
  const int64_t group = job.heads / job.kv_heads;
  const int64_t base = tile * kLanes;
  float inverse[kLanes];
  float* rows[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t flat = item.first_lane + base + lane;
    const bool used = base + lane < item.lanes;
    rows[lane] =
        used ? job.out + (flat / group * job.heads + item.kv_head * group + flat % group) * job.v_dim + begin : nullptr;
    inverse[lane] = used ? 1.0f / sum[lane] : 0.0f;
  }
  core.write(count, out + begin * kLanes, inverse, rows);
}

void Merge(const Core& core, int64_t v_dim, const TileState& total, const TileState& later) {
  core.merge(v_dim, total.out, total.max, total.sum, later.out, later.max, later.sum);
}

void Clear(const TileState& state, int64_t v_dim) {
  std::memset(state.out, 0, v_dim * kLanes * 4);
  std::fill_n(state.max, kLanes, -1e30f);
  std::fill_n(state.sum, kLanes, 0.0f);
}

void RunItem(const Item& item, std::byte* scratch, std::byte* partials) {
  const AttentionJob& job = *item.job;
  const Core& core = ChooseCore(job);
  const Shape shape = ShapeOf(job, item.kv_head);
  const ScratchLayout layout = Layout(core, shape);
  const int64_t group = job.heads / job.kv_heads;
  const int64_t tiles = (item.lanes + kLanes - 1) / kLanes;
  const int64_t query_bytes = core.query_bytes(shape);
  const auto last_seen = [&](int64_t tile) {  // by the last lane: lanes are in the order of their tokens
    return job.first_position + (item.first_lane + std::min((tile + 1) * kLanes, item.lanes) - 1) / group;
  };
  float* const scores[kPair] = {reinterpret_cast<float*>(scratch + layout.scores),
                                reinterpret_cast<float*>(scratch + layout.scores) + kBlockRows * kLanes};
  TileState totals[kTilesPerItem], segments[kTilesPerItem];
  for (int64_t tile = 0; tile < tiles; ++tile) {
    std::byte* memory = item.partial >= 0 ? partials + (item.partial + tile) * StateBytes(job.v_dim)
                                          : scratch + layout.states + tile * StateBytes(job.v_dim);
    totals[tile] = StateAt(memory, job.v_dim);
    segments[tile] = StateAt(scratch + layout.states + (kTilesPerItem + tile) * StateBytes(job.v_dim), job.v_dim);
    Clear(totals[tile], job.v_dim);
    const float* rows[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) {
      const int64_t flat = item.first_lane + tile * kLanes + lane;
      const bool used = tile * kLanes + lane < item.lanes;
      rows[lane] = used ? job.q + (flat / group * job.heads + item.kv_head * group + flat % group) * job.k_dim : nullptr;
      totals[tile].limit[lane] = used ? static_cast<int32_t>(job.first_position + flat / group) : -1;
    }
    core.pack_queries(shape, rows, job.scale, scratch + tile * query_bytes);
  }
  float factors[kPair][kLanes];
  const float* const factor[kPair] = {factors[0], factors[1]};
  for (int64_t begin = item.begin_row; begin < item.end_row;) {
    const int64_t end = std::min(SegmentEnd(begin), item.end_row);
    const TileState* states = begin == item.begin_row ? totals : segments;
    if (states == segments)
      for (int64_t tile = 0; tile < tiles; ++tile) Clear(segments[tile], job.v_dim);
    for (int64_t row = begin; row < end;) {
      const int64_t in_block = row % job.kv.block_tokens;
      const int64_t count = std::min(job.kv.block_tokens - in_block, end - row);
      const std::byte* data = job.kv.blocks[row / job.kv.block_tokens] + job.kv.offset + in_block * job.kv.row_bytes;
      std::byte* block = scratch + layout.block;
      core.prepare_block(shape, data, count, block);
      // The first tiles fetch the next block. What is beyond the item's rows may be beyond the cache.
      const int64_t after = row + count;
      const std::byte* next = nullptr;
      int64_t next_bytes = 0;
      if (after < item.end_row) {
        next = job.kv.blocks[after / job.kv.block_tokens] + job.kv.offset + after % job.kv.block_tokens * job.kv.row_bytes;
        next_bytes = std::min(job.kv.block_tokens - after % job.kv.block_tokens, item.end_row - after) * job.kv.row_bytes;
      }
      for (int64_t tile = 0; tile < tiles;) {
        if (last_seen(tile) < row) {  // nobody in the tile sees this block
          ++tile;
          continue;
        }
        const int together = tile + 1 < tiles ? kPair : 1;  // later lanes see as much or more
        const std::byte* queries[kPair];
        float* out[kPair];
        for (int t = 0; t < together; ++t) {
          queries[t] = scratch + (tile + t) * query_bytes;
          out[t] = states[tile + t].out;
        }
        core.scores(shape, queries, together, data, block, count, next, next_bytes, scores);
        next_bytes = 0;
        for (int t = 0; t < together; ++t)
          core.softmax(scores[t], count, row, totals[tile + t].limit, states[tile + t].max, states[tile + t].sum,
                       factors[t]);
        core.values(shape, scores, together, data, block, count, factor, out);
        tile += together;
      }
      row += count;
    }
    if (states == segments)
      for (int64_t tile = 0; tile < tiles; ++tile) Merge(core, job.v_dim, totals[tile], segments[tile]);
    begin = end;
  }
  if (item.partial < 0)
    for (int64_t tile = 0; tile < tiles; ++tile) WriteOutput(core, item, tile, totals[tile].out, totals[tile].sum, 0, job.v_dim);
}

// Merges the segments of tiles that were computed apart, and writes the output; in pieces of the values, so that several
// threads take part when there is one tile.
struct Reduction {
  Item item;       // lanes and job of the tiles
  int64_t splits;  // partials of segment s start at item.partial + s * tiles
};
constexpr int64_t kReducedValues = 128;

struct ReductionPiece {
  int64_t reduction, tile, begin;
};

void Reduce(const Reduction& reduction, const ReductionPiece& piece, std::byte* partials) {
  const Item& item = reduction.item;
  const Core& core = ChooseCore(*item.job);
  const int64_t v_dim = item.job->v_dim;
  const int64_t tiles = (item.lanes + kLanes - 1) / kLanes;
  const int64_t count = std::min(kReducedValues, v_dim - piece.begin);
  const auto state = [&](int64_t split) {
    return StateAt(partials + (item.partial + split * tiles + piece.tile) * StateBytes(v_dim), v_dim);
  };
  const TileState first = state(0);
  float max[kLanes], sum[kLanes];  // others merge the same maxima and sums for their values
  std::copy_n(first.max, kLanes, max);
  std::copy_n(first.sum, kLanes, sum);
  for (int64_t split = 1; split < reduction.splits; ++split) {
    const TileState later = state(split);
    core.merge(count, first.out + piece.begin * kLanes, max, sum, later.out + piece.begin * kLanes, later.max, later.sum);
  }
  WriteOutput(core, item, piece.tile, first.out, sum, piece.begin, count);
}

// Of what a query token may see: rows that only later ones see are not counted.
void Count(const AttentionJob& job, WorkCount& count) {
  const double tokens = static_cast<double>(job.tokens), first = static_cast<double>(job.first_position);
  const double operations = 2 * static_cast<double>(job.heads * (job.k_dim + job.v_dim)) * tokens * (first + (tokens + 1) / 2);
  const Core* core = &ChooseCore(job);
  (core == attention::Int8Core() ? count.int8 : core == attention::Bf16Core() ? count.bf16 : count.f32) += operations;
  count.bytes += (first + tokens) * static_cast<double>(job.kv.row_bytes);
}

}  // namespace

Status Attention(std::span<const AttentionJob> jobs, AttentionWorkspace& workspace, ThreadPool& pool) {
  std::vector<Item> items;
  std::vector<Reduction> reductions;
  int64_t scratch_bytes = 0, partial_bytes = 0, partial_count = 0;
  for (const AttentionJob& job : jobs) {
    if (job.tokens == 0) continue;
    if (workspace.count != nullptr) Count(job, *workspace.count);
    scratch_bytes = std::max(scratch_bytes, Layout(ChooseCore(job), ShapeOf(job, 0)).total);
    partial_bytes = std::max(partial_bytes, StateBytes(job.v_dim));
    const int64_t group = job.heads / job.kv_heads;
    const int64_t lanes = job.tokens * group;
    // Enough items for every thread, few enough that blocks are prepared seldom.
    const int64_t wanted = std::max<int64_t>(1, 4 * pool.size() / std::max<int64_t>(1, job.kv_heads));
    const int64_t all_tiles = (lanes + kLanes - 1) / kLanes;
    const int64_t tiles = std::clamp<int64_t>(all_tiles / wanted, 1, kTilesPerItem);
    const int64_t item_count = (all_tiles + tiles - 1) / tiles * job.kv_heads;
    const bool split = item_count < pool.size();  // too few items to go round
    for (int64_t head = 0; head < job.kv_heads; ++head) {
      for (int64_t lane = 0; lane < lanes; lane += tiles * kLanes) {
        Item item{&job, head, lane, std::min(tiles * kLanes, lanes - lane), 0, 0, -1};
        item.end_row = job.first_position + (item.first_lane + item.lanes - 1) / group + 1;
        if (!split || item.end_row <= SegmentEnd(0)) {
          items.push_back(item);
          continue;
        }
        const int64_t item_tiles = (item.lanes + kLanes - 1) / kLanes;
        const int64_t end_row = item.end_row;
        item.partial = partial_count;
        Reduction& reduction = reductions.emplace_back(Reduction{item, 0});
        for (item.end_row = 0; item.end_row < end_row; ++reduction.splits) {
          item.begin_row = item.end_row;
          item.end_row = std::min(SegmentEnd(item.begin_row), end_row);
          item.partial = partial_count;
          partial_count += item_tiles;
          items.push_back(item);
        }
      }
    }
  }
  // Later tokens see more rows: the longest items first, so that the short ones fill the gaps at the end.
  std::stable_sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return (a.end_row - a.begin_row) * a.lanes > (b.end_row - b.begin_row) * b.lanes;
  });
  workspace.per_thread.resize(pool.size());
  for (auto& scratch : workspace.per_thread)
    if (static_cast<int64_t>(scratch.size()) < scratch_bytes) {
      FATHOM_TRY(scratch, AlignedBuffer::Allocate(scratch_bytes));
    }
  if (static_cast<int64_t>(workspace.partials.size()) < partial_count * partial_bytes) {
    FATHOM_TRY(workspace.partials, AlignedBuffer::Allocate(partial_count * partial_bytes));
  }
  pool.ParallelFor(static_cast<int64_t>(items.size()), 1, [&](int64_t i, int thread) {
    RunItem(items[i], workspace.per_thread[thread].data(), workspace.partials.data());
  });
  std::vector<ReductionPiece> pieces;
  for (size_t i = 0; i < reductions.size(); ++i)
    for (int64_t tile = 0; tile * kLanes < reductions[i].item.lanes; ++tile)
      for (int64_t begin = 0; begin < reductions[i].item.job->v_dim; begin += kReducedValues)
        pieces.push_back({static_cast<int64_t>(i), tile, begin});
  pool.ParallelFor(static_cast<int64_t>(pieces.size()), 1, [&](int64_t i, int) {
    Reduce(reductions[pieces[i].reduction], pieces[i], workspace.partials.data());
  });
  return {};
}

}  // namespace fathom
