// Products with weights stored as floats: widened to f32 and multiplied in f32. The float half of panels-inl.h.
//
// Each block of 32 columns is summed from zero and then added to the output: shorter chains than one long sum, so
// smaller rounding errors, and again the same order for one row as for many.

constexpr int kFloatBlock = 32;

/// A float format unpacks a block in kChunks steps; Chunk<c> puts its columns.
struct FormatF32 {
  static constexpr int kBytes = 4, kChunks = 8;
  static constexpr bool kScaled = false;
  template <int c, class Sink>
  FATHOM_INLINE static void Chunk(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 16 * c, v);
    sink.template Put<4 * c + 0>(Vec::Cast(v[0]));
    sink.template Put<4 * c + 1>(Vec::Cast(v[1]));
    sink.template Put<4 * c + 2>(Vec::Cast(v[2]));
    sink.template Put<4 * c + 3>(Vec::Cast(v[3]));
  }
};

/// Pairs of 16-bit floats, widened by Derived::Low and ::High.
template <class Derived>
struct FormatPairs {
  static constexpr int kBytes = 2, kChunks = 4;
  static constexpr bool kScaled = false;
  template <int c, class Sink>
  FATHOM_INLINE static void Chunk(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 16 * c, v);
    Two<8 * c + 0>(v[0], sink);
    Two<8 * c + 2>(v[1], sink);
    Two<8 * c + 4>(v[2], sink);
    Two<8 * c + 6>(v[3], sink);
  }

 private:
  template <int k, class Sink>
  FATHOM_INLINE static void Two(Vec::I v, Sink& sink) {
    sink.template Put<k>(Derived::Low(v));
    sink.template Put<k + 1>(Derived::High(v));
  }
};

struct FormatF16 : FormatPairs<FormatF16> {
  FATHOM_INLINE static Vec::F Low(Vec::I v) { return Vec::HalfToFloat(v); }
  FATHOM_INLINE static Vec::F High(Vec::I v) { return HighHalfToFloat(v); }
};

struct FormatBF16 : FormatPairs<FormatBF16> {
  FATHOM_INLINE static Vec::F Low(Vec::I v) { return Vec::Cast(Vec::Shl<16>(v)); }
  FATHOM_INLINE static Vec::F High(Vec::I v) { return Vec::Cast(Vec::And(v, Vec::Set(0xffff0000u))); }
};

struct FormatF8 {
  static constexpr int kBytes = 1, kChunks = 2;
  static constexpr bool kScaled = true;
  template <int c, class Sink>
  FATHOM_INLINE static void Chunk(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 16 * c, v);
    Four<16 * c + 0>(v[0], sink);
    Four<16 * c + 4>(v[1], sink);
    Four<16 * c + 8>(v[2], sink);
    Four<16 * c + 12>(v[3], sink);
  }

 private:
  /// The byte in the top of each lane. Exponent and mantissa move to f32's places and the exponent is rebiased by 120;
  /// subnormals have no leading one: 2^-6 (1 + m / 8) - 2^-6. (Multiplying small bits by 2^120 would be shorter, but
  /// subnormal operands of f32 halve the speed on Zen 5.)
  FATHOM_INLINE static Vec::F Top(Vec::I v) {
    const Vec::I all = Vec::Set(0x07f00000);
    const Vec::I magnitude = Vec::And(Vec::Shr<4>(v), all);
    const Vec::F normal = Vec::Cast(Vec::Add(magnitude, Vec::Set(120u << 23)));
    const Vec::F small = Vec::AddF(Vec::Cast(Vec::Add(magnitude, Vec::Set(121u << 23))), Vec::SetF(-0x1p-6f));
    const Vec::I exponent = Vec::And(magnitude, Vec::Set(0x07800000));
    const Vec::I number = Vec::SelectEqual(exponent, Vec::ZeroI(), Vec::CastI(small), Vec::CastI(normal));
    const Vec::I value = Vec::SelectEqual(magnitude, all, Vec::Set(0x7fc00000), number);
    return Vec::Cast(Vec::AndOr(v, Vec::Set(0x80000000u), value));
  }
  template <int k, class Sink>
  FATHOM_INLINE static void Four(Vec::I v, Sink& sink) {
    sink.template Put<k + 0>(Top(Vec::Shl<24>(v)));
    sink.template Put<k + 1>(Top(Vec::Shl<16>(v)));
    sink.template Put<k + 2>(Top(Vec::Shl<8>(v)));
    sink.template Put<k + 3>(Top(v));
  }
};

template <class Format, int c = 0, class Sink>
FATHOM_INLINE void UnpackFloats(const uint8_t* const* rows, int64_t offset, Sink& sink) {
  if constexpr (c < Format::kChunks) {
    Format::template Chunk<c>(rows, offset, sink);
    UnpackFloats<Format, c + 1>(rows, offset, sink);
  }
}

/// Two blocks side by side: their chains of additions are independent, and one chain alone cannot fill the machine.
template <class Format, int c = 0, class Sink>
FATHOM_INLINE void UnpackTwo(const uint8_t* const* rows, int64_t offset, Sink& first, Sink& second) {
  if constexpr (c < Format::kChunks) {
    Format::template Chunk<c>(rows, offset, first);
    Format::template Chunk<c>(rows, offset + kFloatBlock * Format::kBytes, second);
    UnpackTwo<Format, c + 1>(rows, offset, first, second);
  }
}

template <class Format>
struct FloatDotSink {
  const float* x;
  Vec::F sum;
  Prefetcher<kFloatBlock * Format::kBytes, kFloatBlock, true> prefetch;
  template <int k>
  FATHOM_INLINE void Put(Vec::F w) {
    prefetch.template Step<k>();
    sum = Vec::Fma(w, Vec::SetF(x[k]), sum);
  }
};

struct FloatStoreSink {
  float* out;
  template <int k>
  FATHOM_INLINE void Put(Vec::F w) { Vec::StoreF(out + k * kTileN, w); }
};

/// Weight bytes of the last block, padded.
template <class Format>
struct PaddedRows {
  alignas(64) uint8_t bytes[kLanes][kFloatBlock * Format::kBytes];
  const uint8_t* p[kLanes];
  FATHOM_INLINE PaddedRows(const Rows& rows, int64_t offset, int64_t count) {
    for (int r = 0; r < kLanes; ++r) {
      for (int64_t i = 0; i < kFloatBlock * Format::kBytes; ++i) {
        bytes[r][i] = i < count * Format::kBytes ? rows.p[r][offset + i] : 0;
      }
      p[r] = bytes[r];
    }
  }
};

struct PaddedX {
  alignas(64) float v[kFloatBlock];
  FATHOM_INLINE PaddedX(const float* x, int64_t count) {
    for (int64_t i = 0; i < kFloatBlock; ++i) v[i] = i < count ? x[i] : 0.0f;
  }
};

/// The scale of the block at column k; read only where the format has one.
template <class Format>
FATHOM_INLINE Vec::F BlockScale(const PanelArgs& a, int64_t k) {
  if constexpr (Format::kScaled) {
    if (a.scale_inv != nullptr) return Vec::SetF(a.scale_inv[k / 128]);
  }
  return Vec::SetF(1.0f);
}

/// out + sum, the block scale applied.
template <class Format>
FATHOM_INLINE Vec::F AddBlock(Vec::F out, Vec::F sum, Vec::F scale) {
  if constexpr (Format::kScaled) {
    return Vec::Fma(sum, scale, out);
  } else {
    return Vec::AddF(out, sum);
  }
}

template <class Format>
void OneRowFloat(const PanelArgs& a) {
  const int64_t whole = a.k / kFloatBlock * kFloatBlock;
  for (int64_t j = 0; j < a.n; j += kLanes) {
    const Rows rows(a, j);
    Vec::F out = Vec::ZeroF();
    FloatDotSink<Format> sink{a.xf[0], Vec::ZeroF(), {Ahead(a, j)}};
    int64_t k = 0;
    for (; k + 2 * kFloatBlock <= whole; k += 2 * kFloatBlock) {
      sink.x = a.xf[0] + k;
      sink.sum = Vec::ZeroF();
      FloatDotSink<Format> second = sink;
      second.x += kFloatBlock;
      second.prefetch.NextUnit();
      UnpackTwo<Format>(rows.p, k * Format::kBytes, sink, second);
      sink.prefetch = second.prefetch;
      sink.prefetch.NextUnit();
      out = AddBlock<Format>(out, sink.sum, BlockScale<Format>(a, k));
      out = AddBlock<Format>(out, second.sum, BlockScale<Format>(a, k + kFloatBlock));
    }
    if (k < whole) {
      sink.x = a.xf[0] + k;
      sink.sum = Vec::ZeroF();
      UnpackFloats<Format>(rows.p, k * Format::kBytes, sink);
      out = AddBlock<Format>(out, sink.sum, BlockScale<Format>(a, k));
    }
    if (whole < a.k) {
      const PaddedRows<Format> padded(rows, whole * Format::kBytes, a.k - whole);
      const PaddedX x(a.xf[0] + whole, a.k - whole);
      sink.x = x.v;
      sink.sum = Vec::ZeroF();
      UnpackFloats<Format>(padded.p, 0, sink);
      out = AddBlock<Format>(out, sink.sum, BlockScale<Format>(a, whole));
    }
    StoreRow(a.y + j, out, a.n - j);
  }
}

/// A tile over columns k .. k + blocks * 32 of the rows x.
template <class Format, int kRows>
void FloatTile(const PanelArgs& a, const float* panel, const float* const* x, int64_t k, int64_t x_k, int64_t blocks,
               float* y, int64_t n) {
  Vec::F out[kRows][kTileCols];
  FATHOM_UNROLL
  for (int i = 0; i < kRows; ++i) {
    FATHOM_UNROLL
    for (int c = 0; c < kTileCols; ++c) {
      out[i][c] = k > 0 ? LoadRow(y + i * a.ldy + c * kLanes, n - c * kLanes) : Vec::ZeroF();
    }
  }
  for (int64_t b = 0; b < blocks; ++b) {
    Vec::F sum[kRows][kTileCols];
    FATHOM_UNROLL
    for (int i = 0; i < kRows; ++i) {
      FATHOM_UNROLL
      for (int c = 0; c < kTileCols; ++c) sum[i][c] = Vec::ZeroF();
    }
    for (int kk = 0; kk < kFloatBlock; ++kk) {
      Vec::F w[kTileCols];
      FATHOM_UNROLL
      for (int c = 0; c < kTileCols; ++c) w[c] = Vec::LoadF(panel + (b * kFloatBlock + kk) * kTileN + c * kLanes);
      FATHOM_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const Vec::F v = Vec::SetF(x[i][x_k + b * kFloatBlock + kk]);
        FATHOM_UNROLL
        for (int c = 0; c < kTileCols; ++c) sum[i][c] = Vec::Fma(w[c], v, sum[i][c]);
      }
    }
    const Vec::F scale = BlockScale<Format>(a, k + b * kFloatBlock);
    FATHOM_UNROLL
    for (int i = 0; i < kRows; ++i) {
      FATHOM_UNROLL
      for (int c = 0; c < kTileCols; ++c) out[i][c] = AddBlock<Format>(out[i][c], sum[i][c], scale);
    }
  }
  FATHOM_UNROLL
  for (int i = 0; i < kRows; ++i) {
    FATHOM_UNROLL
    for (int c = 0; c < kTileCols; ++c) StoreRow(y + i * a.ldy + c * kLanes, out[i][c], n - c * kLanes);
  }
}

template <class Format, int kRows>
void FloatTileOf(int rows, const PanelArgs& a, const float* panel, const float* const* x, int64_t k, int64_t x_k,
                 int64_t blocks, float* y, int64_t n) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return FloatTileOf<Format, kRows - 1>(rows, a, panel, x, k, x_k, blocks, y, n);
  }
  FloatTile<Format, kRows>(a, panel, x, k, x_k, blocks, y, n);
}

template <class Format>
void ManyRowsFloat(const PanelArgs& a) {
  alignas(64) float panel[kFloatSlab * kTileN];  // [k][kTileCols][kLanes]
  const int64_t tiles = (a.m + kTileRows - 1) / kTileRows;
  const int64_t height = a.m / tiles, taller = a.m % tiles;
  const int64_t whole = a.k / kFloatBlock * kFloatBlock;
  for (int64_t j = 0; j < a.n; j += kTileN) {
    for (int64_t k = 0; k < a.k;) {
      const bool tail = k == whole;
      const int64_t slab = tail ? kFloatBlock : (whole - k < kFloatSlab ? whole - k : kFloatSlab);
      for (int c = 0; c < kTileCols && j + c * kLanes < a.n; ++c) {
        const Rows rows(a, j + c * kLanes);
        if (tail) {
          const PaddedRows<Format> padded(rows, k * Format::kBytes, a.k - k);
          FloatStoreSink sink{panel + c * kLanes};
          UnpackFloats<Format>(padded.p, 0, sink);
        } else {
          for (int64_t b = 0; b < slab; b += kFloatBlock) {
            FloatStoreSink sink{panel + b * kTileN + c * kLanes};
            UnpackFloats<Format>(rows.p, (k + b) * Format::kBytes, sink);
          }
        }
      }
      int64_t row = 0;
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int rows = static_cast<int>(height + (tile < taller ? 1 : 0));
        float* const y = a.y + row * a.ldy + j;
        if (tail) {
          float padded[kTileRows][kFloatBlock];
          const float* x[kTileRows] = {};
          for (int i = 0; i < rows; ++i) {
            for (int64_t c = 0; c < kFloatBlock; ++c) padded[i][c] = c < a.k - k ? a.xf[row + i][k + c] : 0.0f;
            x[i] = padded[i];
          }
          FloatTileOf<Format, kTileRows>(rows, a, panel, x, k, 0, 1, y, a.n - j);
        } else {
          FloatTileOf<Format, kTileRows>(rows, a, panel, a.xf + row, k, k, slab / kFloatBlock, y, a.n - j);
        }
        row += rows;
      }
      k += slab;
    }
  }
}

template <class Format>
void Floats(const PanelArgs& a) {
  if (a.m == 1) {
    OneRowFloat<Format>(a);
  } else {
    ManyRowsFloat<Format>(a);
  }
}
