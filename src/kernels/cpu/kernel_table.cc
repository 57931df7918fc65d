#include "kernels/cpu/kernel_table.h"

#include <cstdlib>
#include <string>

#include "base/log.h"

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
    const KernelTable* best = nullptr;
    std::string names;
    for (const KernelTable* table : AllKernelTables()) {
      if (!table->supported()) continue;
      if (wanted != nullptr && std::string_view(wanted) == table->name) return *table;
      if (best == nullptr) best = table;
      names += (names.empty() ? "" : ", ") + std::string(table->name);
    }
    if (wanted != nullptr && *wanted != '\0')
      spdlog::warn("FATHOM_ISA={}: not one of those that this machine runs ({}); {} is used", wanted, names, best->name);
    return *best;
  }();
  return active;
}

}  // namespace fathom
