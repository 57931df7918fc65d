#include "base/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace fathom {
namespace {

CpuFeatures Probe() {
  CpuFeatures cpu;
#if defined(__x86_64__)
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return cpu;
  const bool osxsave = c & (1u << 27), avx = c & (1u << 28), fma = c & (1u << 12), f16c = c & (1u << 29);
  if (!osxsave || !avx) return cpu;
  unsigned xcr_low, xcr_high;
  asm("xgetbv" : "=a"(xcr_low), "=d"(xcr_high) : "c"(0));
  const bool os_avx = (xcr_low & 0x06) == 0x06, os_avx512 = (xcr_low & 0xe6) == 0xe6;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return cpu;
  const unsigned leaf7_b = b, leaf7_c = c;
  cpu.avx2 = os_avx && fma && f16c && (leaf7_b & (1u << 5));
  const bool f = leaf7_b & (1u << 16), dq = leaf7_b & (1u << 17), bw = leaf7_b & (1u << 30), vl = leaf7_b & (1u << 31);
  cpu.avx512_vnni = cpu.avx2 && os_avx512 && f && dq && bw && vl && (leaf7_c & (1u << 11));
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
    cpu.avx_vnni = cpu.avx2 && (a & (1u << 4));
    cpu.avx512_bf16 = cpu.avx512_vnni && (a & (1u << 5));
  }
#elif defined(__aarch64__) && defined(__linux__)
  cpu.neon_dotprod = getauxval(AT_HWCAP) & (1ul << 20);  // HWCAP_ASIMDDP
#endif
  return cpu;
}

}  // namespace

const CpuFeatures& Cpu() {
  static const CpuFeatures cpu = Probe();
  return cpu;
}

}  // namespace fathom
