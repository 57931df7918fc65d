// Sixteen 32-bit lanes of AVX-512 with VNNI, as panels-inl.h wants them. Included inside the namespace and target
// region of kernels_avx512.cc only.
//
// The lanes of a vector are sixteen weight rows; each lane holds four consecutive bytes of its row.

struct Vec {
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 6;   // activation rows of a tile
  static constexpr int kTileCols = 2;   // vectors of weight rows of a tile
  static constexpr int kFewRows = 2;    // up to so many rows are multiplied while unpacking
  template <int kZero>
  static constexpr bool kSignedWeights = false;  // vpdpbusd: unsigned weights by signed activations

  using I = __m512i;
  using F = __m512;

  FATHOM_INLINE static I LoadI(const void* p) { return _mm512_load_si512(p); }
  FATHOM_INLINE static void StoreI(void* p, I v) { _mm512_store_si512(p, v); }
  FATHOM_INLINE static F LoadF(const float* p) { return _mm512_loadu_ps(p); }
  FATHOM_INLINE static void StoreF(float* p, F v) { _mm512_storeu_ps(p, v); }
  FATHOM_INLINE static F LoadPartF(const float* p, int count) {
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
  }
  FATHOM_INLINE static void StorePartF(float* p, F v, int count) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), v);
  }

  FATHOM_INLINE static I ZeroI() { return _mm512_setzero_si512(); }
  FATHOM_INLINE static F ZeroF() { return _mm512_setzero_ps(); }
  FATHOM_INLINE static I Set(uint32_t v) { return _mm512_set1_epi32(static_cast<int>(v)); }
  FATHOM_INLINE static F SetF(float v) { return _mm512_set1_ps(v); }
  FATHOM_INLINE static I Broadcast4(const void* p) {
    int v;
    __builtin_memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
  }

  FATHOM_INLINE static I And(I a, I b) { return _mm512_and_si512(a, b); }
  FATHOM_INLINE static I Or(I a, I b) { return _mm512_or_si512(a, b); }
  FATHOM_INLINE static I Xor(I a, I b) { return _mm512_xor_si512(a, b); }
  /// (a & mask) | b in one instruction.
  FATHOM_INLINE static I AndOr(I a, I mask, I b) { return _mm512_ternarylogic_epi32(a, mask, b, 0xea); }
  template <int n>
  FATHOM_INLINE static I Shl(I a) { return _mm512_slli_epi32(a, n); }
  template <int n>
  FATHOM_INLINE static I Shr(I a) { return _mm512_srli_epi32(a, n); }
  template <int n>
  FATHOM_INLINE static I Sar(I a) { return _mm512_srai_epi32(a, n); }
  FATHOM_INLINE static I Add(I a, I b) { return _mm512_add_epi32(a, b); }
  FATHOM_INLINE static I Sub(I a, I b) { return _mm512_sub_epi32(a, b); }
  FATHOM_INLINE static I Sub8(I a, I b) { return _mm512_sub_epi8(a, b); }
  /// Bytes of a 16-byte table, chosen by bytes 0..15.
  FATHOM_INLINE static I Lookup(const int8_t* table, I index) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), index);
  }
  /// Bits 4 * n .. 4 * n + 3 of each lane to bit 4 of its four bytes.
  template <int n>
  FATHOM_INLINE static I SpreadBits(I bits) {
    constexpr int b = n / 2 * 0x01010101;
    const I pattern = _mm512_set4_epi32(0x0c0c0c0c + b, 0x08080808 + b, 0x04040404 + b, b);
    const I byte = _mm512_shuffle_epi8(bits, pattern);
    const __mmask64 set = _mm512_test_epi8_mask(byte, Set(n % 2 == 0 ? 0x08040201u : 0x80402010u));
    return _mm512_maskz_mov_epi8(set, Set(0x10101010u));
  }

  FATHOM_INLINE static F Cast(I a) { return _mm512_castsi512_ps(a); }
  FATHOM_INLINE static I CastI(F a) { return _mm512_castps_si512(a); }
  FATHOM_INLINE static F ToFloat(I a) { return _mm512_cvtepi32_ps(a); }
  FATHOM_INLINE static F AddF(F a, F b) { return _mm512_add_ps(a, b); }
  FATHOM_INLINE static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  FATHOM_INLINE static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  /// The low 16 bits of each lane as an f16.
  FATHOM_INLINE static F HalfToFloat(I a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }
  /// b where the lanes of a and mask are equal, else c.
  FATHOM_INLINE static I SelectEqual(I a, I mask, I b, I c) {
    return _mm512_mask_mov_epi32(c, _mm512_cmpeq_epi32_mask(a, mask), b);
  }

  /// acc + the four products of each lane's bytes.
  template <bool kSigned>
  FATHOM_INLINE static I Dot(I acc, I w, I x) {
    static_assert(!kSigned);
    // Assembly, since g++ 12 copies accumulators around the intrinsic.
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w), "v"(x));
    return acc;
  }

  /// Sixteen bytes of each row at `offset`: out[d] holds dword d of every row.
  FATHOM_INLINE static void Load16(const uint8_t* const* rows, int64_t offset, I* out) {
    I quad[4];
    FATHOM_UNROLL
    for (int j = 0; j < 4; ++j) quad[j] = Gather(rows, offset, j);
    const I low01 = _mm512_unpacklo_epi32(quad[0], quad[1]), high01 = _mm512_unpackhi_epi32(quad[0], quad[1]);
    const I low23 = _mm512_unpacklo_epi32(quad[2], quad[3]), high23 = _mm512_unpackhi_epi32(quad[2], quad[3]);
    out[0] = _mm512_unpacklo_epi64(low01, low23);
    out[1] = _mm512_unpackhi_epi64(low01, low23);
    out[2] = _mm512_unpacklo_epi64(high01, high23);
    out[3] = _mm512_unpackhi_epi64(high01, high23);
  }
  /// Only dword d of the sixteen bytes.
  template <int d>
  FATHOM_INLINE static I Load4(const uint8_t* const* rows, int64_t offset) {
    I all[4];
    Load16(rows, offset, all);
    return all[d];
  }

  // For quantising activations.
  FATHOM_INLINE static I Max(I a, I b) { return _mm512_max_epi32(a, b); }
  FATHOM_INLINE static int32_t ReduceMax(I a) { return _mm512_reduce_max_epi32(a); }
  FATHOM_INLINE static int32_t ReduceAdd(I a) { return _mm512_reduce_add_epi32(a); }
  FATHOM_INLINE static I Round(F a) { return _mm512_cvtps_epi32(a); }
  FATHOM_INLINE static void StoreBytes(int8_t* p, I a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
  }

 private:
  // Rows j, j + 4, j + 8, j + 12 side by side: the 4x4 transposes inside 128-bit lanes then leave the rows in order.
  FATHOM_INLINE static I Gather(const uint8_t* const* rows, int64_t offset, int j) {
    I v = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[j] + offset)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[j + 4] + offset)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[j + 8] + offset)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[j + 12] + offset)), 3);
  }
};
