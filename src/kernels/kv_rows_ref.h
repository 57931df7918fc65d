// Naive twin of kv_rows.h: every value by itself, the nearest code by looking at all of them, in f64.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/kv_row.h"

namespace fathom {

void StoreKvRowRef(const KvRowFormat& format, const float* x, int64_t first, int64_t count, std::byte* row);
double KvValueRef(const KvRowFormat& format, const std::byte* row, int64_t index);

}  // namespace fathom
