// Opens a region compiled for the instruction set FATHOM_TARGET (a string literal): everything defined until
// target_end.h may use it. Set FATHOM_TARGET after all other includes, so that no function of another header is
// compiled for it. No include guard: once a file.
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
