// What the processor can do, as far as the kernels care: bundles of instruction sets that are used together.
//
// Probed once (cpuid and the operating system's register-saving, or the auxiliary vector); thread-safe.
#pragma once

namespace fathom {

struct CpuFeatures {
  // x86-64
  bool avx2 = false;         // with FMA and F16C
  bool avx_vnni = false;     // 256-bit VNNI in VEX encoding, with avx2
  bool avx512_vnni = false;  // AVX-512 F, BW, VL, DQ and VNNI, with avx2
  bool avx512_bf16 = false;  // vdpbf16ps, with avx512_vnni
  // aarch64 (NEON itself is always there)
  bool neon_dotprod = false;
};

const CpuFeatures& Cpu();

}  // namespace fathom
