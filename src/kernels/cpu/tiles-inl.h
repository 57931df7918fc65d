// Many rows of activations: weights unpacked into tiles that stay in L1. Part of panels-inl.h.

/// A slab of unpacked weights, small enough for the stack and for L1.
template <int kSub>
struct Panel {
  alignas(64) uint8_t bytes[kSlab * kTileN];        // [k4][kTileCols][kLanes][4]
  alignas(64) float scale[kSlab / kSub * kTileN];   // [sub][kTileCols][kLanes]
  alignas(64) float bias[kSlab / kSub * kTileN];
};

template <class Format>
struct StoreSink {
  uint8_t* bytes;
  float* scale;
  float* bias;
  Prefetcher<Format::kBytes / (Format::kBlockK / Format::kUnitK), Format::kUnitK / 4, false> prefetch;
  template <int sub>
  FATHOM_INLINE void Scale(Vec::F v) { Vec::StoreF(scale + sub * kTileN, v); }
  template <int sub>
  FATHOM_INLINE void Bias(Vec::F v) { Vec::StoreF(bias + sub * kTileN, v); }
  template <int k4>
  FATHOM_INLINE void Put(Vec::I u) {
    prefetch.template Step<k4>();
    Vec::StoreI(bytes + k4 * kTileN * 4, DotOperand<Format>(u));
  }
  template <int unit>
  FATHOM_INLINE void Units(const Rows& rows, int64_t offset) {
    if constexpr (unit * Format::kUnitK < Format::kBlockK) {
      Format::template Unpack<unit>(rows.p, offset, *this);
      bytes += Format::kUnitK * kTileN;
      prefetch.NextUnit();
      Units<unit + 1>(rows, offset);
    }
  }
};

/// What the inner loops need to know of a format; formats that agree share their code.
template <int sub, int zero, bool affine>
struct TileTraits {
  static constexpr int kSub = sub, kZero = zero;
  static constexpr bool kAffine = affine;
};

/// Spreads the fetching of the next panel over the tiles of this one: so many lines a step.
struct TileFetch {
  const uint8_t* at;
  int64_t lines;  // of each step, until none are left
  int64_t left;
  FATHOM_INLINE void Step() {
    if (left <= 0) return;
    for (int64_t i = 0; i < lines; ++i) FATHOM_PREFETCH_L2(at + 64 * i);
    at += 64 * lines;
    left -= lines;
  }
  /// For the panel after row j, in `steps` steps.
  FATHOM_INLINE void Begin(const PanelArgs& a, int64_t j, int64_t steps) {
    at = Ahead::At(a, (j + kTileN) * a.w_stride);
    left = kTileN * a.w_stride / 64;
    lines = (left + steps - 1) / steps;
  }
};
constexpr int64_t kManyTiles = 3;  // from here on there is more to do in tiles than in unpacking

struct TileArgs {
  const uint8_t* bytes;
  const float* scale;
  const float* bias;
  int64_t groups;  // of 32 columns
  bool accumulate;
  const ActivationBlock* const* rows;
  int64_t x_group;  // first group in the rows
  float* y;
  int64_t ldy;
  int64_t n;  // columns of y that exist
  const ActivationBlock* const* next_rows;  // of the tile that follows, at least as many; only prefetched
  int64_t next_group;
  TileFetch fetch;
};

/// One sub-block of a tile of kRows x kTileCols vectors.
template <class Traits, int kRows, int sub_in_block>
FATHOM_INLINE void TileSub(const uint8_t* bytes, const float* scale, const float* bias,
                           const ActivationBlock* const* x, Vec::F (*out)[kTileCols]) {
  constexpr bool kSigned = Vec::kSignedWeights<Traits::kZero>;
  Vec::I sum[kRows][kTileCols];
  FATHOM_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const Vec::I start = StartSum<Traits, sub_in_block>(x[i]);
    FATHOM_UNROLL
    for (int c = 0; c < kTileCols; ++c) sum[i][c] = start;
  }
  FATHOM_UNROLL
  for (int k4 = 0; k4 < Traits::kSub / 4; ++k4) {
    Vec::I w[kTileCols];
    FATHOM_UNROLL
    for (int c = 0; c < kTileCols; ++c) w[c] = Vec::LoadI(bytes + (k4 * kTileCols + c) * kLanes * 4);
    FATHOM_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Vec::I q = Vec::Broadcast4(x[i]->q + 16 * sub_in_block + 4 * k4);
      FATHOM_UNROLL
      for (int c = 0; c < kTileCols; ++c) sum[i][c] = Vec::template Dot<kSigned>(sum[i][c], w[c], q);
    }
  }
  Vec::F s[kTileCols], b[kTileCols];
  FATHOM_UNROLL
  for (int c = 0; c < kTileCols; ++c) {
    s[c] = Vec::LoadF(scale + c * kLanes);
    if constexpr (Traits::kAffine) b[c] = Vec::LoadF(bias + c * kLanes);
  }
  FATHOM_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const Vec::F x_scale = Vec::SetF(x[i]->scale);
    FATHOM_UNROLL
    for (int c = 0; c < kTileCols; ++c) {
      out[i][c] = Vec::Fma(Vec::Mul(Vec::ToFloat(sum[i][c]), s[c]), x_scale, out[i][c]);
    }
    if constexpr (Traits::kAffine) {
      const Vec::F x_sum = ScaledSum<Traits::kSub, sub_in_block>(x[i]);
      FATHOM_UNROLL
      for (int c = 0; c < kTileCols; ++c) out[i][c] = Vec::Fma(b[c], x_sum, out[i][c]);
    }
  }
}

template <class Traits, int kRows>
void Tile(TileArgs& t) {
  const ActivationBlock* x[kRows];
  Vec::F out[kRows][kTileCols];
  FATHOM_UNROLL
  for (int i = 0; i < kRows; ++i) {
    x[i] = t.rows[i] + t.x_group;
    FATHOM_UNROLL
    for (int c = 0; c < kTileCols; ++c) {
      out[i][c] = t.accumulate ? LoadRow(t.y + i * t.ldy + c * kLanes, t.n - c * kLanes) : Vec::ZeroF();
    }
  }
  const uint8_t* bytes = t.bytes;
  const float* scale = t.scale;
  const float* bias = t.bias;
  TileFetch fetch = t.fetch;
  for (int64_t g = 0; g < t.groups; ++g) {
    fetch.Step();
    FATHOM_UNROLL
    for (int i = 0; i < kRows; ++i) FATHOM_PREFETCH_L1(t.next_rows[i] + t.next_group + g);
    TileSub<Traits, kRows, 0>(bytes, scale, bias, x, out);
    if constexpr (Traits::kSub == 16) {
      TileSub<Traits, kRows, 1>(bytes + 16 * kTileN, scale + kTileN, bias + kTileN, x, out);
    }
    bytes += 32 * kTileN;
    scale += 32 / Traits::kSub * kTileN;
    bias += 32 / Traits::kSub * kTileN;
    FATHOM_UNROLL
    for (int i = 0; i < kRows; ++i) ++x[i];
  }
  FATHOM_UNROLL
  for (int i = 0; i < kRows; ++i) {
    FATHOM_UNROLL
    for (int c = 0; c < kTileCols; ++c) StoreRow(t.y + i * t.ldy + c * kLanes, out[i][c], t.n - c * kLanes);
  }
  t.fetch = fetch;
}

template <class Traits, int kRows>
void TileOf(int rows, TileArgs& t) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return TileOf<Traits, kRows - 1>(rows, t);
  }
  Tile<Traits, kRows>(t);
}

template <class Format>
void ManyRows(const PanelArgs& a) {
  using Traits = TileTraits<Format::kSub, Format::kZero, Format::kAffine>;
  constexpr int64_t kBlockBytes = int64_t{Format::kBytes} * kLanes;
  Panel<Format::kSub> panel;
  // Tiles of nearly equal height: 7 rows are 3 + 4, not 6 + 1. The shorter ones come first.
  const int64_t tiles = (a.m + kTileRows - 1) / kTileRows;
  const int64_t height = a.m / tiles, shorter = tiles - a.m % tiles;
  // The next panel is fetched where the time is spent: in unpacking or in multiplying.
  const bool many = tiles >= kManyTiles;
  TileFetch fetch{nullptr, 0, 0};
  for (int64_t j = 0; j < a.n; j += kTileN) {
    if (many) fetch.Begin(a, j, tiles * a.k / 32);
    for (int64_t k = 0; k < a.k; k += kSlab) {
      const int64_t slab = a.k - k < kSlab ? a.k - k : kSlab;
      for (int c = 0; c < kTileCols && j + c * kLanes < a.n; ++c) {
        const Rows rows(a, j + c * kLanes);
        // The same part of the panel after this one, in the order of addresses; or what is in cache already.
        const uint8_t* ahead = Ahead::At(a, (j + (many ? 0 : kTileN) + c * kLanes) * a.w_stride) +
                               k / Format::kBlockK * kBlockBytes;
        for (int64_t b = 0; b < slab / Format::kBlockK; ++b) {
          const int64_t offset = (k / Format::kBlockK + b) * Format::kBytes;
          const int64_t sub = b * Format::kBlockK / Format::kSub * kTileN + c * kLanes;
          StoreSink<Format> sink{panel.bytes + (b * Format::kBlockK / 4 * kTileN + c * kLanes) * 4, panel.scale + sub,
                                 panel.bias + sub, {ahead + b * kBlockBytes}};
          Format::Scales(rows.p, offset, sink);
          sink.template Units<0>(rows, offset);
        }
      }
      const int64_t next_k = k + kSlab < a.k ? k + kSlab : 0;
      TileArgs t{panel.bytes, panel.scale, panel.bias, slab / 32, k > 0,  a.xq,   k / 32,
                 a.y + j,     a.ldy,       a.n - j,    a.xq,      next_k / 32, fetch};
      for (int64_t tile = 0; tile < tiles; ++tile) {
        const int rows = static_cast<int>(height + (tile < shorter ? 0 : 1));
        t.next_rows = tile + 1 < tiles ? t.rows + rows : a.xq;
        t.next_group = tile + 1 < tiles ? k / 32 : next_k / 32;
        TileOf<Traits, kTileRows>(rows, t);
        t.rows += rows;
        t.y += rows * a.ldy;
      }
      fetch = t.fetch;
    }
  }
}
