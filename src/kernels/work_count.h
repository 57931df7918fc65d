// What kernels had to do, for a roofline: bytes that must come from memory at least once, and multiplications and
// additions by the arithmetic that does them. A workspace that has one adds to it (Matmul, Attention); plain values, as
// thread-safe as the workspace.
#pragma once

namespace fathom {

struct WorkCount {
  double bytes = 0;  // weights and cached rows, each once a call; activations are taken to stay in the caches
  double int8 = 0, bf16 = 0, f32 = 0;  // operations; a multiplication and an addition are two

  double operations() const { return int8 + bf16 + f32; }
  WorkCount& operator+=(const WorkCount& more) {
    bytes += more.bytes;
    int8 += more.int8;
    bf16 += more.bf16;
    f32 += more.f32;
    return *this;
  }
};

}  // namespace fathom
