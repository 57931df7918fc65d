#include "kernels/cpu/kernel_table.h"

#include <cstdlib>
#include <cstring>

namespace fathom {

#if defined(__x86_64__)
extern const KernelTable kAvx512Kernels, kAvxVnniKernels, kAvx2Kernels;
#elif defined(__aarch64__)
extern const KernelTable kNeonDotprodKernels, kNeonKernels;
#endif
extern const KernelTable kGenericKernels;

std::span<const KernelTable* const> AllKernelTables() {
  static constexpr const KernelTable* kTables[] = {
#if defined(__x86_64__)
      &kAvx512Kernels, &kAvxVnniKernels, &kAvx2Kernels,
#elif defined(__aarch64__)
      &kNeonDotprodKernels, &kNeonKernels,
#endif
      &kGenericKernels,
  };
  return kTables;
}

const KernelTable& ActiveKernels() {
  static const KernelTable& active = []() -> const KernelTable& {
    const char* wanted = std::getenv("FATHOM_ISA");
    // A name that is unknown or that the machine cannot run changes nothing.
    const KernelTable* best = nullptr;
    for (const KernelTable* table : AllKernelTables()) {
      if (!table->supported()) continue;
      if (wanted != nullptr && std::strcmp(wanted, table->name) == 0) return *table;
      if (best == nullptr) best = table;
    }
    return *best;
  }();
  return active;
}

}  // namespace fathom
