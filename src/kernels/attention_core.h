// Inside of attention: one key block against tiles of sixteen lanes. attention.cc owns the loops, the memory and the
// threads; a core is one instruction set's arithmetic. Not for use outside kernels/.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/kv_row.h"

namespace fathom::attention {

inline constexpr int kLanes = 16;       // (query, head) pairs in a tile
inline constexpr int kBlockRows = 64;   // keys handled at once
inline constexpr int kPair = 2;         // tiles handled at once: they share what is loaded of keys and values

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
  /// scores[tile][count][16] = K Q for one tile or a pair; a tile's bits are the same in both. Meanwhile what lies in
  /// [next, next + next_bytes) is fetched from memory, 0 bytes: nothing.
  void (*scores)(const Shape&, const std::byte* const packed[kPair], int tiles, const std::byte* data,
                 const std::byte* block, int64_t count, const std::byte* next, int64_t next_bytes,
                 float* const scores[kPair]);
  /// Online softmax of one block: scores of row r are masked for lanes with limit[lane] < first_row + r; max and sum
  /// are updated, scores become probabilities, factor[lane] is what earlier output must be multiplied by (1 wherever
  /// nothing changed).
  void (*softmax)(float* scores, int64_t count, int64_t first_row, const int32_t* limit, float* max, float* sum,
                  float* factor);
  /// out[tile][v_dim][16] = out * factor + V^T P, for one tile or a pair; a tile's bits are the same in both.
  void (*values)(const Shape&, float* const probabilities[kPair], int tiles, const std::byte* data,
                 const std::byte* block, int64_t count, const float* const factor[kPair], float* const out[kPair]);
  /// rows[lane][i] = out[i][lane] * factor[lane] for lanes whose row is not nullptr.
  void (*write)(int64_t v_dim, const float* out, const float* factor, float* const rows[kLanes]);
  /// Takes in a later segment's result: out[v_dim][16], max[16] and sum[16] become those of both.
  void (*merge)(int64_t v_dim, float* out, float* max, float* sum, const float* later_out, const float* later_max,
                const float* later_sum);
};

/// The portable core (Highway); those in bf16 and int8 with AVX-512, nullptr where the machine lacks it.
const Core& PortableCore();
const Core* Bf16Core();
const Core* Int8Core();
/// Whether Int8Core() can do this shape: MLA's, in bf16 or 8 bits.
bool Int8CoreTakes(const Shape& shape);

}  // namespace fathom::attention
