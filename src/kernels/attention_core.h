// Inside of attention: one key block against tiles of sixteen lanes. attention.cc owns the loops, the memory and the
// threads; a core is one instruction set's arithmetic. Not for use outside kernels/.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/kv_row.h"

namespace fathom::attention {

inline constexpr int kLanes = 16;       // (query, head) pairs in a tile
inline constexpr int kBlockRows = 64;   // keys handled at once

/// Sizes that a core and the driver agree on.
struct Shape {
  DType dtype;
  int64_t k_dim, v_dim;
  int64_t row_bytes;
  int64_t k_begin, v_begin;  // first element of this head's key and value in a row
  KvRowFormat row;

  bool shared() const { return k_begin == v_begin; }  // values are the keys' first part
};

struct Core {
  const char* name;
  /// Bytes of packed queries of one tile, and of a prepared key and value block.
  int64_t (*query_bytes)(const Shape&);
  int64_t (*block_bytes)(const Shape&);
  /// Packs 16 query vectors (rows[lane], nullptr: zeros), multiplied by scale.
  void (*pack_queries)(const Shape&, const float* const rows[kLanes], float scale, std::byte* packed);
  /// Prepares `count` rows (1..64) at `data` for all tiles of this thread.
  void (*prepare_block)(const Shape&, const std::byte* data, int64_t count, std::byte* block);
  /// scores[count][16] = K Q
  void (*scores)(const Shape&, const std::byte* packed, const std::byte* data, const std::byte* block, int64_t count,
                 float* scores);
  /// Online softmax of one block: scores of row r are masked for lanes with limit[lane] < first_row + r; max and sum
  /// are updated, scores become probabilities, factor[lane] is what earlier output must be multiplied by (returns
  /// false when all are 1).
  bool (*softmax)(float* scores, int64_t count, int64_t first_row, const int32_t* limit, float* max, float* sum,
                  float* factor);
  /// out[v_dim][16] = out * factor (when scale_out) + V^T P
  void (*values)(const Shape&, float* probabilities, const std::byte* data, const std::byte* block, int64_t count,
                 const float* factor, bool scale_out, float* out);
  /// Takes in a later segment's result: out[v_dim][16], max[16] and sum[16] become those of both.
  void (*merge)(int64_t v_dim, float* out, float* max, float* sum, const float* later_out, const float* later_max,
                const float* later_sum);
};

/// The portable core (Highway), and the AVX-512 BF16 one or nullptr where the machine lacks it.
const Core& PortableCore();
const Core* Bf16Core();

}  // namespace fathom::attention
