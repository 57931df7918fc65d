// Opens a region compiled for the instruction set FATHOM_TARGET (a string literal): everything defined until
// target_end.h may use it. Set FATHOM_TARGET after all other includes, so that no function of another header is
// compiled for it. No include guard: once a file.
#ifndef FATHOM_PREFETCH_L1
// As assembly, since GCC gathers its builtins at one place of a block, where they arrive as the burst that they must
// not be; clang leaves them where they are (and has no %a0).
#if defined(__x86_64__) && !defined(__clang__)
#define FATHOM_PREFETCH_L1(address) asm volatile("prefetcht0 %a0" : : "p"(address))
#define FATHOM_PREFETCH_L2(address) asm volatile("prefetcht1 %a0" : : "p"(address))
#elif defined(__aarch64__) && !defined(__clang__)
#define FATHOM_PREFETCH_L1(address) asm volatile("prfm pldl1keep, %a0" : : "p"(address))
#define FATHOM_PREFETCH_L2(address) asm volatile("prfm pldl2keep, %a0" : : "p"(address))
#else
#define FATHOM_PREFETCH_L1(address) __builtin_prefetch(address, 0, 3)
#define FATHOM_PREFETCH_L2(address) __builtin_prefetch(address, 0, 2)
#endif
#endif

#define FATHOM_INLINE inline __attribute__((always_inline))
#define FATHOM_PRAGMA(text) _Pragma(#text)
#define FATHOM_PRAGMA_OF(text) FATHOM_PRAGMA(text)
#ifdef __clang__
#define FATHOM_UNROLL _Pragma("unroll")
#ifdef FATHOM_TARGET
FATHOM_PRAGMA_OF(clang attribute push(__attribute__((target(FATHOM_TARGET))), apply_to = function))
#endif
#else
#define FATHOM_UNROLL _Pragma("GCC unroll 64")
#ifdef FATHOM_TARGET
#pragma GCC push_options
FATHOM_PRAGMA_OF(GCC target(FATHOM_TARGET))
#endif
#endif
