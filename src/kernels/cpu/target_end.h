// Closes the region that target_begin.h opened. No include guard.
#ifdef FATHOM_TARGET
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
