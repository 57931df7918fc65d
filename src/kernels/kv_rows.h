// Writes and reads rows of keys and values in every format of tensor/kv_row.h. Dispatched at run time by Highway.
//
// kv_rows_ref.h has the naive twin; the AVX-512 core of attention has a reader of its own, to bf16. Pure functions,
// thread-safe; a row needs no alignment beyond four bytes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/kv_row.h"

namespace fathom {

/// Stores x[0, count) as values [first, first + count) of the row. REQUIRES: in 8 bits `first` is a multiple of the
/// group, and first + count is too or is codes() or lies in the tail: a group's scale is made of all its values at once.
void StoreKvRow(const KvRowFormat& format, const float* x, int64_t first, int64_t count, std::byte* row);

/// Values [first, first + count) of the row, exactly: code times scale in f32.
void LoadKvRow(const KvRowFormat& format, const std::byte* row, int64_t first, int64_t count, float* out);

}  // namespace fathom
