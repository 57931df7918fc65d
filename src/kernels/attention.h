// Causal attention of query rows over a paged cache of keys and values, with online softmax (FlashAttention,
// arXiv 2205.14135), for grouped-query heads and for MLA's absorbed form alike.
//
// MLA in absorbed form is multi-query attention: one "key head" of kv_lora + rope values (512 + 64), whose first
// kv_lora values are also the value; queries are already multiplied by W_UK (DeepSeek-V2, arXiv 2405.04434, §2.1).
//
// Layout of the computation: sixteen (query, head) pairs that share a key head lie in the lanes of a vector, and keys
// and values are broadcast to them, so there are no horizontal sums and any head count fills the lanes. Long contexts
// with few queries (decode) are split over threads and combined.
//
// AttentionJob::int8 allows MLA's latents, queries and probabilities in int8 (cpu/attention_avx512vnni.cc says how), for rows
// in bf16 and int8 and where the machine has the instructions: for models whose weights are multiplied in int8 anyway.
//
// Rows in 8 bits (tensor/kv_row.h) are unpacked a block at a time into the thread's scratch, once for all tiles there.
//
// attention_ref.h has the naive twin. Dispatch at run time; caches in bf16 and in 8 bits use vdpbf16ps where the machine
// has it (queries, probabilities and unpacked values are then rounded to bf16), f32 arithmetic elsewhere.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "kernels/work_count.h"
#include "tensor/dtype.h"
#include "tensor/kv_row.h"

namespace fathom {

/// One layer's cached rows of one sequence. Row r lies in blocks[r / block_tokens] + offset + (r % block_tokens) *
/// row_bytes; key head h starts at element h * k_dim, its value at v_begin + h * v_dim (0 + … when shared, MLA).
struct KvView {
  DType dtype = DType::kF32;  // kF32, kF16, kBF16, kF8_E4M3, kI8
  const std::byte* const* blocks = nullptr;
  int64_t offset = 0;        // bytes of the layer's rows inside a block
  int64_t row_bytes = 0;
  int64_t block_tokens = 64; // a power of two, at most 64
  int64_t v_begin = 0;       // elements
  int64_t row_values = 0, row_tail = 0, row_group = 0;  // in 8 bits: as KvRowFormat

  KvRowFormat row() const { return {dtype, row_values, row_tail, row_group}; }
};

struct AttentionJob {
  KvView kv;
  int64_t tokens = 0;          // query tokens; token t sees rows [0, first_position + t]
  int64_t first_position = 0;
  int64_t heads = 0, kv_heads = 0;  // heads is a multiple of kv_heads; heads of a group are consecutive
  int64_t k_dim = 0, v_dim = 0;     // k_dim even for bf16
  float scale = 1.0f;               // multiplies scores
  bool int8 = false;                // MLA: latents, queries and probabilities may be rounded to int8 (see above)
  const float* q = nullptr;         // [tokens, heads, k_dim], dense
  float* out = nullptr;             // [tokens, heads, v_dim], dense
};

/// Scratch, one per thread; reused between calls.
class AttentionWorkspace {
 public:
  std::vector<AlignedBuffer> per_thread;
  AlignedBuffer partials;
  WorkCount* count = nullptr;  // added to by every call, when there is one
};

/// Does all jobs in one or two parallel regions. Errors: kResource when scratch cannot be had.
Status Attention(std::span<const AttentionJob> jobs, AttentionWorkspace& workspace, ThreadPool& pool);

}  // namespace fathom
