// Quantising activations, and the loops that measure the machine's ceilings. Part of panels-inl.h.

void Quantize(const float* x, int64_t count, ActivationBlock* out) {
  constexpr int kVectors = 32 / kLanes;
  for (int64_t at = 0; at < count; at += 32, ++out) {
    alignas(64) float padded[32];
    const float* in = x + at;
    if (count - at < 32) {
      for (int i = 0; i < 32; ++i) padded[i] = at + i < count ? in[i] : 0.0f;
      in = padded;
    }
    Vec::F v[kVectors];
    Vec::I top = Vec::ZeroI();
    FATHOM_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      v[i] = Vec::LoadF(in + i * kLanes);
      // As integers, magnitudes order like floats, with infinity and then NaN on top.
      top = Vec::Max(top, Vec::And(Vec::CastI(v[i]), Vec::Set(0x7fffffff)));
    }
    const float amax = __builtin_bit_cast(float, Vec::ReduceMax(top));
    float scale = amax / 127.0f;
    float inverse = 127.0f / amax;
    if (!(amax <= 0x1.fffffep127f)) {
      scale = __builtin_nanf("");
      inverse = 0;
      FATHOM_UNROLL
      for (int i = 0; i < kVectors; ++i) v[i] = Vec::ZeroF();
    } else if (!(inverse <= 0x1.fffffep127f)) {  // zeros, or so small that 127 / amax overflows
      scale = inverse = 0;
    }
    Vec::I sums[2] = {Vec::ZeroI(), Vec::ZeroI()};
    FATHOM_UNROLL
    for (int i = 0; i < kVectors; ++i) {
      const Vec::I q = Vec::Round(Vec::Mul(v[i], Vec::SetF(inverse)));
      Vec::StoreBytes(out->q + i * kLanes, q);
      sums[i * kLanes / 16] = Vec::Add(sums[i * kLanes / 16], q);
    }
    const int32_t high = Vec::ReduceAdd(sums[1]), sum = Vec::ReduceAdd(sums[0]) + high;
    out->scale = scale;
    out->scaled_sum = scale * static_cast<float>(sum);
    out->neg_sum = -sum;
    out->neg_sum_high = -high;
  }
}

uint64_t ReadStream(const std::byte* data, int64_t bytes) {
  Vec::I a = Vec::ZeroI(), b = a, c = a, d = a;
  constexpr int64_t kStep = kLanes * 4;
  for (int64_t i = 0; i + 4 * kStep <= bytes; i += 4 * kStep) {
    a = Vec::Xor(a, Vec::LoadI(data + i));
    b = Vec::Xor(b, Vec::LoadI(data + i + kStep));
    c = Vec::Xor(c, Vec::LoadI(data + i + 2 * kStep));
    d = Vec::Xor(d, Vec::LoadI(data + i + 3 * kStep));
  }
  return static_cast<uint64_t>(Vec::ReduceAdd(Vec::Xor(Vec::Xor(a, b), Vec::Xor(c, d))));
}

constexpr int kPeakChains = 12;  // enough to hide the latency of any of them; every loop over them is unrolled

int64_t Int8Peak(int64_t rounds, int32_t* sink) {
  Vec::I sum[kPeakChains];
  Vec::I w = Vec::Set(static_cast<uint32_t>(*sink) | 0x01010101u);
  const Vec::I x = Vec::Set(0x01ff01ff);
  FATHOM_UNROLL
  for (int i = 0; i < kPeakChains; ++i) sum[i] = Vec::ZeroI();
  for (int64_t r = 0; r < rounds; ++r) {
    FATHOM_UNROLL
    for (int i = 0; i < kPeakChains; ++i) {
      asm volatile("" : FATHOM_VEC_ASM(w));  // a new operand every time, as far as the compiler knows
      sum[i] = Vec::template Dot<Vec::kSignedWeights<8>>(sum[i], w, x);
    }
    FATHOM_UNROLL
    for (int i = 0; i < kPeakChains; ++i) asm volatile("" : FATHOM_VEC_ASM(sum[i]));
  }
  FATHOM_UNROLL
  for (int i = 1; i < kPeakChains; ++i) sum[0] = Vec::Add(sum[0], sum[i]);
  *sink = Vec::ReduceAdd(sum[0]);
  return rounds * kPeakChains * kLanes * 4 * 2;
}

int64_t F32Peak(int64_t rounds, float* sink) {
  Vec::F sum[kPeakChains];
  const Vec::F w = Vec::SetF(*sink), x = Vec::SetF(0.5f);
  FATHOM_UNROLL
  for (int i = 0; i < kPeakChains; ++i) sum[i] = Vec::ZeroF();
  for (int64_t r = 0; r < rounds; ++r) {
    FATHOM_UNROLL
    for (int i = 0; i < kPeakChains; ++i) sum[i] = Vec::Fma(w, x, sum[i]);
    FATHOM_UNROLL
    for (int i = 0; i < kPeakChains; ++i) asm volatile("" : FATHOM_VEC_ASM(sum[i]));
  }
  FATHOM_UNROLL
  for (int i = 1; i < kPeakChains; ++i) sum[0] = Vec::AddF(sum[0], sum[i]);
  alignas(64) float lanes[kLanes];
  Vec::StoreF(lanes, sum[0]);
  *sink = lanes[0];
  return rounds * kPeakChains * kLanes * 2;
}
