// Four 32-bit lanes in plain C++, as panels-inl.h wants them: runs anywhere, and is what the vector versions must equal.
// Included inside the namespace of kernels_generic.cc only.

struct Vec {
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 2;
  static constexpr int kTileCols = 2;
  template <int kZero>
  static constexpr bool kSignedWeights = true;

  struct I {
    uint32_t v[4];
  };
  struct F {
    float v[4];
  };
#define FATHOM_LANES(Type, expression)               \
  Type r;                                            \
  for (int i = 0; i < 4; ++i) r.v[i] = (expression); \
  return r

  FATHOM_INLINE static I LoadI(const void* p) {
    I r;
    __builtin_memcpy(r.v, p, 16);
    return r;
  }
  FATHOM_INLINE static void StoreI(void* p, I a) { __builtin_memcpy(p, a.v, 16); }
  FATHOM_INLINE static F LoadF(const float* p) { FATHOM_LANES(F, p[i]); }
  FATHOM_INLINE static void StoreF(float* p, F a) { __builtin_memcpy(p, a.v, 16); }
  FATHOM_INLINE static F LoadPartF(const float* p, int count) { FATHOM_LANES(F, i < count ? p[i] : 0.0f); }
  FATHOM_INLINE static void StorePartF(float* p, F a, int count) {
    for (int i = 0; i < count; ++i) p[i] = a.v[i];
  }

  FATHOM_INLINE static I ZeroI() { return Set(0); }
  FATHOM_INLINE static F ZeroF() { return SetF(0); }
  FATHOM_INLINE static I Set(uint32_t a) { return I{{a, a, a, a}}; }
  FATHOM_INLINE static F SetF(float a) { return F{{a, a, a, a}}; }
  FATHOM_INLINE static I Broadcast4(const void* p) {
    uint32_t a;
    __builtin_memcpy(&a, p, 4);
    return Set(a);
  }

  FATHOM_INLINE static I And(I a, I b) { FATHOM_LANES(I, a.v[i] & b.v[i]); }
  FATHOM_INLINE static I Or(I a, I b) { FATHOM_LANES(I, a.v[i] | b.v[i]); }
  FATHOM_INLINE static I Xor(I a, I b) { FATHOM_LANES(I, a.v[i] ^ b.v[i]); }
  FATHOM_INLINE static I AndOr(I a, I mask, I b) { return Or(And(a, mask), b); }
  template <int n>
  FATHOM_INLINE static I Shl(I a) { FATHOM_LANES(I, a.v[i] << n); }
  template <int n>
  FATHOM_INLINE static I Shr(I a) { FATHOM_LANES(I, a.v[i] >> n); }
  template <int n>
  FATHOM_INLINE static I Sar(I a) { FATHOM_LANES(I, static_cast<uint32_t>(static_cast<int32_t>(a.v[i]) >> n)); }
  FATHOM_INLINE static I Add(I a, I b) { FATHOM_LANES(I, a.v[i] + b.v[i]); }
  FATHOM_INLINE static I Sub(I a, I b) { FATHOM_LANES(I, a.v[i] - b.v[i]); }
  /// Byte by byte: the top bits are kept apart so that no borrow crosses.
  FATHOM_INLINE static I Sub8(I a, I b) {
    FATHOM_LANES(I, ((a.v[i] | 0x80808080u) - (b.v[i] & 0x7f7f7f7fu)) ^ ((a.v[i] ^ ~b.v[i]) & 0x80808080u));
  }
  FATHOM_INLINE static I Lookup(const int8_t* table, I index) {
    FATHOM_LANES(I, LookupByte(table, index.v[i], 0) | LookupByte(table, index.v[i], 8) |
                        LookupByte(table, index.v[i], 16) | LookupByte(table, index.v[i], 24));
  }
  template <int n>
  FATHOM_INLINE static I SpreadBits(I bits) {
    // The four bits land at bits 0, 8, 16, 24 of the product; nothing carries.
    FATHOM_LANES(I, (((bits.v[i] >> (4 * n)) & 15) * 0x00204081u & 0x01010101u) << 4);
  }

  FATHOM_INLINE static F Cast(I a) { return __builtin_bit_cast(F, a); }
  FATHOM_INLINE static I CastI(F a) { return __builtin_bit_cast(I, a); }
  FATHOM_INLINE static F ToFloat(I a) { FATHOM_LANES(F, static_cast<float>(static_cast<int32_t>(a.v[i]))); }
  FATHOM_INLINE static F AddF(F a, F b) { FATHOM_LANES(F, a.v[i] + b.v[i]); }
  FATHOM_INLINE static F Mul(F a, F b) { FATHOM_LANES(F, a.v[i] * b.v[i]); }
  /// Two roundings: a fused one in software would be many times slower.
  FATHOM_INLINE static F Fma(F a, F b, F c) { FATHOM_LANES(F, a.v[i] * b.v[i] + c.v[i]); }
  FATHOM_INLINE static F HalfToFloat(I a) { FATHOM_LANES(F, F16ToFloat(static_cast<uint16_t>(a.v[i]))); }
  FATHOM_INLINE static I SelectEqual(I a, I mask, I b, I c) {
    FATHOM_LANES(I, a.v[i] == mask.v[i] ? b.v[i] : c.v[i]);
  }

  template <bool kSigned>
  FATHOM_INLINE static I Dot(I acc, I w, I x) {
    FATHOM_LANES(I, acc.v[i] + Product(w.v[i], x.v[i], 0) + Product(w.v[i], x.v[i], 8) +
                        Product(w.v[i], x.v[i], 16) + Product(w.v[i], x.v[i], 24));
  }

  FATHOM_INLINE static void Load16(const uint8_t* const* rows, int64_t offset, I* out) {
    for (int r = 0; r < 4; ++r) {
      uint32_t words[4];
      __builtin_memcpy(words, rows[r] + offset, 16);
      for (int d = 0; d < 4; ++d) out[d].v[r] = words[d];
    }
  }
  template <int d>
  FATHOM_INLINE static I Load4(const uint8_t* const* rows, int64_t offset) {
    I all[4];
    Load16(rows, offset, all);
    return all[d];
  }

  FATHOM_INLINE static I Max(I a, I b) {
    FATHOM_LANES(I, static_cast<int32_t>(a.v[i]) > static_cast<int32_t>(b.v[i]) ? a.v[i] : b.v[i]);
  }
  FATHOM_INLINE static int32_t ReduceMax(I a) {
    int32_t top = static_cast<int32_t>(a.v[0]);
    for (int i = 1; i < 4; ++i) top = static_cast<int32_t>(a.v[i]) > top ? static_cast<int32_t>(a.v[i]) : top;
    return top;
  }
  FATHOM_INLINE static int32_t ReduceAdd(I a) { return static_cast<int32_t>(a.v[0] + a.v[1] + a.v[2] + a.v[3]); }
  FATHOM_INLINE static I Round(F a) {
    FATHOM_LANES(I, static_cast<uint32_t>(static_cast<int32_t>(__builtin_nearbyintf(a.v[i]))));
  }
  FATHOM_INLINE static void StoreBytes(int8_t* p, I a) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(a.v[i]);
  }
#undef FATHOM_LANES

 private:
  FATHOM_INLINE static uint32_t LookupByte(const int8_t* table, uint32_t index, int shift) {
    return static_cast<uint32_t>(static_cast<uint8_t>(table[index >> shift & 15])) << shift;
  }
  FATHOM_INLINE static uint32_t Product(uint32_t w, uint32_t x, int shift) {
    return static_cast<uint32_t>(static_cast<int8_t>(w >> shift) * static_cast<int8_t>(x >> shift));
  }
};
