// Four 32-bit lanes in the compiler's portable vectors, as panels-inl.h wants them: runs anywhere, and is what the
// vector versions are compared with. Included inside the namespace of kernels_generic.cc only.

struct Vec {
  static constexpr int kLanes = 4;
  static constexpr int kTileRows = 2;
  static constexpr int kTileCols = 2;
  static constexpr int kFewRows = 1;    // up to so many rows are multiplied while unpacking
  template <int kZero>
  static constexpr bool kSignedWeights = true;

  typedef uint32_t I __attribute__((vector_size(16)));
  typedef int32_t S __attribute__((vector_size(16)));  // the same lanes, signed
  typedef int16_t H __attribute__((vector_size(16)));
  typedef float F __attribute__((vector_size(16)));

  FATHOM_INLINE static I LoadI(const void* p) {
    I r;
    __builtin_memcpy(&r, p, 16);
    return r;
  }
  FATHOM_INLINE static void StoreI(void* p, I a) { __builtin_memcpy(p, &a, 16); }
  FATHOM_INLINE static F LoadF(const float* p) {
    F r;
    __builtin_memcpy(&r, p, 16);
    return r;
  }
  FATHOM_INLINE static void StoreF(float* p, F a) { __builtin_memcpy(p, &a, 16); }
  FATHOM_INLINE static F LoadPartF(const float* p, int count) {
    F r = ZeroF();
    for (int i = 0; i < count; ++i) r[i] = p[i];
    return r;
  }
  FATHOM_INLINE static void StorePartF(float* p, F a, int count) {
    for (int i = 0; i < count; ++i) p[i] = a[i];
  }

  FATHOM_INLINE static I ZeroI() { return Set(0); }
  FATHOM_INLINE static F ZeroF() { return SetF(0); }
  FATHOM_INLINE static I Set(uint32_t a) { return I{a, a, a, a}; }
  FATHOM_INLINE static F SetF(float a) { return F{a, a, a, a}; }
  FATHOM_INLINE static I Broadcast4(const void* p) {
    uint32_t a;
    __builtin_memcpy(&a, p, 4);
    return Set(a);
  }

  FATHOM_INLINE static I And(I a, I b) { return a & b; }
  FATHOM_INLINE static I Or(I a, I b) { return a | b; }
  FATHOM_INLINE static I Xor(I a, I b) { return a ^ b; }
  FATHOM_INLINE static I AndOr(I a, I mask, I b) { return (a & mask) | b; }
  template <int n>
  FATHOM_INLINE static I Shl(I a) { return a << n; }
  template <int n>
  FATHOM_INLINE static I Shr(I a) { return a >> n; }
  template <int n>
  FATHOM_INLINE static I Sar(I a) { return (I)((S)a >> n); }
  FATHOM_INLINE static I Add(I a, I b) { return a + b; }
  FATHOM_INLINE static I Sub(I a, I b) { return a - b; }
  /// Byte by byte: the top bits are kept apart so that no borrow crosses.
  FATHOM_INLINE static I Sub8(I a, I b) {
    return ((a | Set(0x80808080u)) - (b & Set(0x7f7f7f7fu))) ^ ((a ^ ~b) & Set(0x80808080u));
  }
  FATHOM_INLINE static I Lookup(const int8_t* table, I index) {
    uint8_t bytes[16];
    __builtin_memcpy(bytes, &index, 16);
#pragma GCC unroll 1
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<uint8_t>(table[bytes[i] & 15]);
    return LoadI(bytes);
  }
  template <int n>
  FATHOM_INLINE static I SpreadBits(I bits) {
    const I four = (bits >> (4 * n)) & Set(15);
    // Copies shifted by 0, 7, 14, 21 put the four bits at bits 0, 8, 16, 24.
    return ((four | four << 7 | four << 14 | four << 21) & Set(0x01010101u)) << 4;
  }

  FATHOM_INLINE static F Cast(I a) { return (F)a; }
  FATHOM_INLINE static I CastI(F a) { return (I)a; }
  FATHOM_INLINE static F ToFloat(I a) { return __builtin_convertvector((S)a, F); }
  FATHOM_INLINE static F AddF(F a, F b) { return a + b; }
  FATHOM_INLINE static F Mul(F a, F b) { return a * b; }
  /// Two roundings: a fused one in software would be many times slower.
  FATHOM_INLINE static F Fma(F a, F b, F c) { return a * b + c; }
  /// Exponent and mantissa moved to f32's places are the value times 2^-112, subnormals included.
  FATHOM_INLINE static F HalfToFloat(I a) {
    const I magnitude = (a & Set(0x7fff)) << 13, sign = (a & Set(0x8000)) << 16;
    const I value = CastI(Cast(magnitude) * SetF(0x1p112f));
    const I special = magnitude | Set(0x7f800000u);  // infinity and NaN
    const I is_special = (I)((S)magnitude >= (S)Set(0x0f800000u));
    return Cast(((special & is_special) | (value & ~is_special)) | sign);
  }
  FATHOM_INLINE static I SelectEqual(I a, I mask, I b, I c) {
    const I equal = (I)(a == mask);
    return (b & equal) | (c & ~equal);
  }

  template <bool kSigned>
  FATHOM_INLINE static I Dot(I acc, I w, I x) {
    // Even and odd bytes as int16; two products of int8 add up to at most 2 * 128 * 127, which fits.
    const H pairs = ((H)(w << 8) >> 8) * ((H)(x << 8) >> 8) + ((H)w >> 8) * ((H)x >> 8);
    return acc + (I)((S)((I)pairs << 16) >> 16) + (I)((S)pairs >> 16);
  }

  FATHOM_INLINE static void Load16(const uint8_t* const* rows, int64_t offset, I* out) {
    const I a = LoadI(rows[0] + offset), b = LoadI(rows[1] + offset);
    const I c = LoadI(rows[2] + offset), d = LoadI(rows[3] + offset);
    for (int i = 0; i < 4; ++i) out[i] = I{a[i], b[i], c[i], d[i]};
  }
  template <int d>
  FATHOM_INLINE static I Load4(const uint8_t* const* rows, int64_t offset) {
    I r;
    for (int i = 0; i < 4; ++i) {
      uint32_t word;
      __builtin_memcpy(&word, rows[i] + offset + 4 * d, 4);
      r[i] = word;
    }
    return r;
  }

  FATHOM_INLINE static I Max(I a, I b) {
    const I greater = (I)((S)a > (S)b);
    return (a & greater) | (b & ~greater);
  }
  FATHOM_INLINE static int32_t ReduceMax(I a) {
    int32_t top = static_cast<int32_t>(a[0]);
    for (int i = 1; i < 4; ++i) top = static_cast<int32_t>(a[i]) > top ? static_cast<int32_t>(a[i]) : top;
    return top;
  }
  FATHOM_INLINE static int32_t ReduceAdd(I a) { return static_cast<int32_t>(a[0] + a[1] + a[2] + a[3]); }
  FATHOM_INLINE static I Round(F a) {
    I r;
    for (int i = 0; i < 4; ++i) r[i] = static_cast<uint32_t>(static_cast<int32_t>(__builtin_nearbyintf(a[i])));
    return r;
  }
  FATHOM_INLINE static void StoreBytes(int8_t* p, I a) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<int8_t>(a[i]);
  }
};
