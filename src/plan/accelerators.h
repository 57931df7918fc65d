// Accelerators that a training plan can be made for: dense matrix peaks and memory, as their makers state them.
// Constants; thread-safe.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"

namespace fathom {

struct Accelerator {
  std::string_view name;  // as users write it: "h800"
  double bf16_flops;      // dense (without structured sparsity), operations a second
  double fp8_flops;       // dense; 0: has none
  double memory_bytes;
  std::string_view source;
};

std::span<const Accelerator> Accelerators();
/// Case-insensitive. Errors: kInvalidArgument with the names there are.
Result<Accelerator> FindAccelerator(std::string_view name);

}  // namespace fathom
