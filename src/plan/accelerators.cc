#include "plan/accelerators.h"

#include <cctype>
#include <string>

namespace fathom {
namespace {

// NVIDIA's sheets state peaks with 2:4 sparsity; these are half of them.
constexpr Accelerator kAccelerators[] = {
    {"h800", 989.4e12, 1978.9e12, 80e9, "NVIDIA H100 SXM data sheet: the H800 differs in NVLink (400 GB/s) and FP64"},
    {"h100", 989.4e12, 1978.9e12, 80e9, "NVIDIA H100 SXM data sheet"},
    {"h200", 989.4e12, 1978.9e12, 141e9, "NVIDIA H200 SXM data sheet"},
    {"a100", 312e12, 0, 80e9, "NVIDIA A100 SXM 80 GB data sheet"},
    {"b200", 2250e12, 4500e12, 180e9, "NVIDIA DGX B200 data sheet, an eighth of the system"},
    {"mi300x", 1307.4e12, 2614.9e12, 192e9, "AMD Instinct MI300X data sheet"},
    {"910b", 320e12, 0, 64e9, "Huawei states no number publicly; 320 TFLOP/s in FP16 is what the press repeats"},
};

}  // namespace

std::span<const Accelerator> Accelerators() { return kAccelerators; }

Result<Accelerator> FindAccelerator(std::string_view name) {
  std::string key(name), names;
  for (char& c : key) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const Accelerator& one : kAccelerators) {
    if (one.name == key) return one;
    names += (names.empty() ? "" : ", ") + std::string(one.name);
  }
  return Fail(ErrorCode::kInvalidArgument, "device '{}' is not known; there are {}, or state --flops", name, names);
}

}  // namespace fathom
