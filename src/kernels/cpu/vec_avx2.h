// Eight 32-bit lanes of AVX2 with FMA and F16C, and of AVX-VNNI where FATHOM_AVX_VNNI is set, as panels-inl.h wants
// them. Included inside the namespaces and target regions of kernels_avx2.cc only.

struct Vec {
  static constexpr int kLanes = 8;
  static constexpr int kTileRows = 3;
  static constexpr int kTileCols = 2;
  // Without VNNI, products are summed in pairs of int16 that saturate: unsigned weights up to 128 fit (128 * 127 * 2),
  // the types with a zero of 128 go through signed weights whose sign is moved to the activations.
  static constexpr int kFewRows = 1;    // up to so many rows are multiplied while unpacking
  template <int kZero>
#ifdef FATHOM_AVX_VNNI
  static constexpr bool kSignedWeights = false;
#else
  static constexpr bool kSignedWeights = kZero == 128;
#endif

  using I = __m256i;
  using F = __m256;

  FATHOM_INLINE static I LoadI(const void* p) { return _mm256_load_si256(static_cast<const __m256i*>(p)); }
  FATHOM_INLINE static void StoreI(void* p, I v) { _mm256_store_si256(static_cast<__m256i*>(p), v); }
  FATHOM_INLINE static F LoadF(const float* p) { return _mm256_loadu_ps(p); }
  FATHOM_INLINE static void StoreF(float* p, F v) { _mm256_storeu_ps(p, v); }
  FATHOM_INLINE static F LoadPartF(const float* p, int count) { return _mm256_maskload_ps(p, PartMask(count)); }
  FATHOM_INLINE static void StorePartF(float* p, F v, int count) { _mm256_maskstore_ps(p, PartMask(count), v); }

  FATHOM_INLINE static I ZeroI() { return _mm256_setzero_si256(); }
  FATHOM_INLINE static F ZeroF() { return _mm256_setzero_ps(); }
  FATHOM_INLINE static I Set(uint32_t v) { return _mm256_set1_epi32(static_cast<int>(v)); }
  FATHOM_INLINE static F SetF(float v) { return _mm256_set1_ps(v); }
  FATHOM_INLINE static I Broadcast4(const void* p) {
    int v;
    __builtin_memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
  }

  FATHOM_INLINE static I And(I a, I b) { return _mm256_and_si256(a, b); }
  FATHOM_INLINE static I Or(I a, I b) { return _mm256_or_si256(a, b); }
  FATHOM_INLINE static I Xor(I a, I b) { return _mm256_xor_si256(a, b); }
  FATHOM_INLINE static I AndOr(I a, I mask, I b) { return Or(And(a, mask), b); }
  template <int n>
  FATHOM_INLINE static I Shl(I a) { return _mm256_slli_epi32(a, n); }
  template <int n>
  FATHOM_INLINE static I Shr(I a) { return _mm256_srli_epi32(a, n); }
  template <int n>
  FATHOM_INLINE static I Sar(I a) { return _mm256_srai_epi32(a, n); }
  FATHOM_INLINE static I Add(I a, I b) { return _mm256_add_epi32(a, b); }
  FATHOM_INLINE static I Sub(I a, I b) { return _mm256_sub_epi32(a, b); }
  FATHOM_INLINE static I Sub8(I a, I b) { return _mm256_sub_epi8(a, b); }
  FATHOM_INLINE static I Lookup(const int8_t* table, I index) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), index);
  }
  template <int n>
  FATHOM_INLINE static I SpreadBits(I bits) {
    constexpr int b = n / 2 * 0x01010101;
    const I pattern = _mm256_setr_epi32(b, 0x04040404 + b, 0x08080808 + b, 0x0c0c0c0c + b, b, 0x04040404 + b,
                                        0x08080808 + b, 0x0c0c0c0c + b);
    const I select = Set(n % 2 == 0 ? 0x08040201u : 0x80402010u);
    const I set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(bits, pattern), select), select);
    return _mm256_and_si256(set, Set(0x10101010u));
  }

  FATHOM_INLINE static F Cast(I a) { return _mm256_castsi256_ps(a); }
  FATHOM_INLINE static I CastI(F a) { return _mm256_castps_si256(a); }
  FATHOM_INLINE static F ToFloat(I a) { return _mm256_cvtepi32_ps(a); }
  FATHOM_INLINE static F AddF(F a, F b) { return _mm256_add_ps(a, b); }
  FATHOM_INLINE static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  FATHOM_INLINE static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  FATHOM_INLINE static F HalfToFloat(I a) {
    const I low = _mm256_and_si256(a, Set(0xffff));  // packus takes values as signed
    const I packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(packed));
  }
  FATHOM_INLINE static I SelectEqual(I a, I mask, I b, I c) {
    return _mm256_blendv_epi8(c, b, _mm256_cmpeq_epi32(a, mask));
  }

  template <bool kSigned>
  FATHOM_INLINE static I Dot(I acc, I w, I x) {
#ifdef FATHOM_AVX_VNNI
    static_assert(!kSigned);
    return _mm256_dpbusd_avx_epi32(acc, w, x);
#else
    I pairs;
    if constexpr (kSigned) {
      pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    } else {
      pairs = _mm256_maddubs_epi16(w, x);
    }
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
  }

  /// Sixteen bytes of each row at `offset`: out[d] holds dword d of every row.
  FATHOM_INLINE static void Load16(const uint8_t* const* rows, int64_t offset, I* out) {
    const I q0 = Gather(rows, offset, 0), q1 = Gather(rows, offset, 1);
    const I q2 = Gather(rows, offset, 2), q3 = Gather(rows, offset, 3);
    const I low01 = _mm256_unpacklo_epi32(q0, q1), high01 = _mm256_unpackhi_epi32(q0, q1);
    const I low23 = _mm256_unpacklo_epi32(q2, q3), high23 = _mm256_unpackhi_epi32(q2, q3);
    out[0] = _mm256_unpacklo_epi64(low01, low23);
    out[1] = _mm256_unpackhi_epi64(low01, low23);
    out[2] = _mm256_unpacklo_epi64(high01, high23);
    out[3] = _mm256_unpackhi_epi64(high01, high23);
  }
  template <int d>
  FATHOM_INLINE static I Load4(const uint8_t* const* rows, int64_t offset) {
    I all[4];
    Load16(rows, offset, all);
    return all[d];
  }

  // For quantising activations.
  FATHOM_INLINE static I Max(I a, I b) { return _mm256_max_epi32(a, b); }
  FATHOM_INLINE static int32_t ReduceMax(I a) {
    __m128i v = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    v = _mm_max_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    v = _mm_max_epi32(v, _mm_shuffle_epi32(v, 0xb1));
    return _mm_cvtsi128_si32(v);
  }
  FATHOM_INLINE static int32_t ReduceAdd(I a) {
    __m128i v = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1));
    return _mm_cvtsi128_si32(v);
  }
  FATHOM_INLINE static I Round(F a) { return _mm256_cvtps_epi32(a); }
  FATHOM_INLINE static void StoreBytes(int8_t* p, I a) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  }

 private:
  FATHOM_INLINE static I PartMask(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  // Rows j and j + 4 side by side: the 4x4 transposes inside 128-bit lanes then leave the rows in order.
  FATHOM_INLINE static I Gather(const uint8_t* const* rows, int64_t offset, int j) {
    const I v = _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[j] + offset)));
    return _mm256_inserti128_si256(v, _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[j + 4] + offset)), 1);
  }
};
