// What the machine-specific code of the matmul room offers: one table of plain functions an instruction set. The
// tables hold the same algorithm (cpu/panels-inl.h) compiled for different vectors; matmul.cc picks the best one that
// the machine can run, tests try all of them.
//
// Constant data, thread-safe. Private to the kernels room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/matmul.h"
#include "tensor/dtype.h"

namespace fathom {

/// A range of weight rows times m rows of activations.
struct PanelArgs {
  const uint8_t* w = nullptr;  // first weight row of the range
  int64_t w_stride = 0;        // bytes between weight rows
  int64_t n = 0;               // weight rows in the range
  const uint8_t* next = nullptr;  // what the thread will probably read after the range; only prefetched
  int64_t k = 0;
  const float* scale_inv = nullptr;  // kF8_E4M3: scales of the 128 rows in which the range lies, one per 128 columns
  const ActivationBlock* const* xq = nullptr;  // [m], at the first column used; quantised types
  const float* const* xf = nullptr;            // [m], at the first column used; other types
  int64_t m = 0;
  float* y = nullptr;  // output row 0, first column of the range
  int64_t ldy = 0;
};

/// Every range starts at a multiple of this many rows of the weight; all but the last hold a multiple of it.
inline constexpr int64_t kPanelRows = 32;

using PanelFn = void (*)(const PanelArgs& args);

struct KernelTable {
  const char* name;
  bool (*supported)();  // by this machine
  void (*quantize)(const float* x, int64_t count, ActivationBlock* out);
  PanelFn (*panel)(DType dtype);  // nullptr for a type that is no weight type
  // For the measured ceilings; the value returned only keeps the work alive.
  uint64_t (*read_stream)(const std::byte* data, int64_t bytes);
  int64_t (*int8_peak)(int64_t rounds, int32_t* sink);  // returns integer operations done (2 a multiply-add)
  int64_t (*f32_peak)(int64_t rounds, float* sink);     // returns float operations done
  int64_t (*bf16_peak)(int64_t rounds, float* sink);    // nullptr where the machine has no bf16 dot product
};

/// Every table compiled in, best first; the last one runs anywhere.
std::span<const KernelTable* const> AllKernelTables();
/// The best one that this machine supports, lowered by FATHOM_ISA.
const KernelTable& ActiveKernels();

}  // namespace fathom
