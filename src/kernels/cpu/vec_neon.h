// Four 32-bit lanes of NEON, with the dot product instruction where FATHOM_DOTPROD is set, as panels-inl.h wants them.
// Included inside the namespaces and target regions of kernels_neon.cc only.

struct Vec {
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 6;
  static constexpr int kTileCols = 2;
  static constexpr int kFewRows = 1;
  template <int kZero>
  static constexpr bool kSignedWeights = true;  // sdot takes both operands signed

  using I = uint32x4_t;
  using F = float32x4_t;

  FATHOM_INLINE static I LoadI(const void* p) { return vreinterpretq_u32_u8(vld1q_u8(static_cast<const uint8_t*>(p))); }
  FATHOM_INLINE static void StoreI(void* p, I v) { vst1q_u8(static_cast<uint8_t*>(p), vreinterpretq_u8_u32(v)); }
  FATHOM_INLINE static F LoadF(const float* p) { return vld1q_f32(p); }
  FATHOM_INLINE static void StoreF(float* p, F v) { vst1q_f32(p, v); }
  FATHOM_INLINE static F LoadPartF(const float* p, int count) {
    float lanes[4] = {};
    for (int i = 0; i < count; ++i) lanes[i] = p[i];
    return vld1q_f32(lanes);
  }
  FATHOM_INLINE static void StorePartF(float* p, F v, int count) {
    float lanes[4];
    vst1q_f32(lanes, v);
    for (int i = 0; i < count; ++i) p[i] = lanes[i];
  }

  FATHOM_INLINE static I ZeroI() { return vdupq_n_u32(0); }
  FATHOM_INLINE static F ZeroF() { return vdupq_n_f32(0); }
  FATHOM_INLINE static I Set(uint32_t v) { return vdupq_n_u32(v); }
  FATHOM_INLINE static F SetF(float v) { return vdupq_n_f32(v); }
  FATHOM_INLINE static I Broadcast4(const void* p) {
    uint32_t v;
    __builtin_memcpy(&v, p, 4);
    return vdupq_n_u32(v);
  }

  FATHOM_INLINE static I And(I a, I b) { return vandq_u32(a, b); }
  FATHOM_INLINE static I Or(I a, I b) { return vorrq_u32(a, b); }
  FATHOM_INLINE static I Xor(I a, I b) { return veorq_u32(a, b); }
  FATHOM_INLINE static I AndOr(I a, I mask, I b) { return vorrq_u32(vandq_u32(a, mask), b); }
  // Shifts by zero are not encodable to the right.
  template <int n>
  FATHOM_INLINE static I Shl(I a) { return vshlq_n_u32(a, n); }
  template <int n>
  FATHOM_INLINE static I Shr(I a) {
    if constexpr (n == 0) {
      return a;
    } else {
      return vshrq_n_u32(a, n);
    }
  }
  template <int n>
  FATHOM_INLINE static I Sar(I a) { return vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(a), n)); }
  FATHOM_INLINE static I Add(I a, I b) { return vaddq_u32(a, b); }
  FATHOM_INLINE static I Sub(I a, I b) { return vsubq_u32(a, b); }
  FATHOM_INLINE static I Sub8(I a, I b) {
    return vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(a), vreinterpretq_u8_u32(b)));
  }
  FATHOM_INLINE static I Lookup(const int8_t* table, I index) {
    return vreinterpretq_u32_s8(vqtbl1q_s8(vld1q_s8(table), vreinterpretq_u8_u32(index)));
  }
  template <int n>
  FATHOM_INLINE static I SpreadBits(I bits) {
    static constexpr uint8_t b = n / 2;
    static constexpr uint8_t kPattern[16] = {b,     b,     b,     b,     4 + b,  4 + b,  4 + b,  4 + b,
                                             8 + b, 8 + b, 8 + b, 8 + b, 12 + b, 12 + b, 12 + b, 12 + b};
    const uint8x16_t bytes = vqtbl1q_u8(vreinterpretq_u8_u32(bits), vld1q_u8(kPattern));
    const uint8x16_t select = vreinterpretq_u8_u32(Set(n % 2 == 0 ? 0x08040201u : 0x80402010u));
    return And(vreinterpretq_u32_u8(vtstq_u8(bytes, select)), Set(0x10101010u));
  }

  FATHOM_INLINE static F Cast(I a) { return vreinterpretq_f32_u32(a); }
  FATHOM_INLINE static I CastI(F a) { return vreinterpretq_u32_f32(a); }
  FATHOM_INLINE static F ToFloat(I a) { return vcvtq_f32_s32(vreinterpretq_s32_u32(a)); }
  FATHOM_INLINE static F AddF(F a, F b) { return vaddq_f32(a, b); }
  FATHOM_INLINE static F Mul(F a, F b) { return vmulq_f32(a, b); }
  FATHOM_INLINE static F Fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  FATHOM_INLINE static F HalfToFloat(I a) { return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(a))); }
  FATHOM_INLINE static I SelectEqual(I a, I mask, I b, I c) { return vbslq_u32(vceqq_u32(a, mask), b, c); }

  template <bool kSigned>
  FATHOM_INLINE static I Dot(I acc, I w, I x) {
    const int32x4_t sum = vreinterpretq_s32_u32(acc);
    const int8x16_t a = vreinterpretq_s8_u32(w), b = vreinterpretq_s8_u32(x);
#ifdef FATHOM_DOTPROD
    return vreinterpretq_u32_s32(vdotq_s32(sum, a, b));
#else
    // Two products of int8 add up to at most 2 * 128 * 127, which int16 holds.
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return vreinterpretq_u32_s32(vpadalq_s16(sum, vpaddq_s16(low, high)));
#endif
  }

  /// Sixteen bytes of each row at `offset`: out[d] holds dword d of every row.
  FATHOM_INLINE static void Load16(const uint8_t* const* rows, int64_t offset, I* out) {
    const I a = LoadI(rows[0] + offset), b = LoadI(rows[1] + offset);
    const I c = LoadI(rows[2] + offset), d = LoadI(rows[3] + offset);
    const uint64x2_t even01 = vreinterpretq_u64_u32(vtrn1q_u32(a, b)), odd01 = vreinterpretq_u64_u32(vtrn2q_u32(a, b));
    const uint64x2_t even23 = vreinterpretq_u64_u32(vtrn1q_u32(c, d)), odd23 = vreinterpretq_u64_u32(vtrn2q_u32(c, d));
    out[0] = vreinterpretq_u32_u64(vtrn1q_u64(even01, even23));
    out[1] = vreinterpretq_u32_u64(vtrn1q_u64(odd01, odd23));
    out[2] = vreinterpretq_u32_u64(vtrn2q_u64(even01, even23));
    out[3] = vreinterpretq_u32_u64(vtrn2q_u64(odd01, odd23));
  }
  template <int d>
  FATHOM_INLINE static I Load4(const uint8_t* const* rows, int64_t offset) {
    I all[4];
    Load16(rows, offset, all);
    return all[d];
  }

  // For quantising activations.
  FATHOM_INLINE static I Max(I a, I b) {
    return vreinterpretq_u32_s32(vmaxq_s32(vreinterpretq_s32_u32(a), vreinterpretq_s32_u32(b)));
  }
  FATHOM_INLINE static int32_t ReduceMax(I a) { return vmaxvq_s32(vreinterpretq_s32_u32(a)); }
  FATHOM_INLINE static int32_t ReduceAdd(I a) { return vaddvq_s32(vreinterpretq_s32_u32(a)); }
  FATHOM_INLINE static I Round(F a) { return vreinterpretq_u32_s32(vcvtnq_s32_f32(a)); }
  FATHOM_INLINE static void StoreBytes(int8_t* p, I a) {
    const int16x4_t words = vmovn_s32(vreinterpretq_s32_u32(a));
    const int8x8_t bytes = vmovn_s16(vcombine_s16(words, words));
    __builtin_memcpy(p, &bytes, 4);
  }
};
