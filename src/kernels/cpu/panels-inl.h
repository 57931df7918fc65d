// Products of panels of weight rows with rows of activations, written once for all instruction sets. Included by each
// kernels_*.cc inside a namespace and target region of its own, after the Vec of that instruction set.
//
// Weight rows are the lanes of a vector: every output has its own lane, so nothing is ever summed across lanes, and
// each output is summed in the same order (blocks of 32 columns one after the other) whether it is computed alone or in
// a tile. Results for a row of activations therefore do not depend, to the bit, on the rows computed beside it.
//
//   one row of activations:   unpack in registers and multiply at once; each weight byte is read once, the next panel is
//                             prefetched in the order of its addresses
//   more rows:                unpack kTileCols vectors of rows by kSlab columns into scratch that stays in L1, then
//                             multiply tiles of kTileRows rows of activations
//
// No std:: templates and no lambdas here: their instances could be merged with those of other files and carry
// instructions that the machine lacks.

#include "kernels/cpu/formats-inl.h"

constexpr int kLanes = Vec::kLanes;
constexpr int kTileRows = Vec::kTileRows;
constexpr int kTileCols = Vec::kTileCols;
constexpr int kTileN = kTileCols * kLanes;
constexpr int kSlab = 512;        // columns unpacked at a time, quantised types
constexpr int kFloatSlab = 128;   // the same for float types; a multiple of 32 that divides 128
static_assert(kPanelRows % kTileN == 0);

/// Pointers to the kLanes weight rows from row j; past the end of the range the last row again.
struct Rows {
  const uint8_t* p[kLanes];
  FATHOM_INLINE Rows(const PanelArgs& a, int64_t j) {
    for (int r = 0; r < kLanes; ++r) p[r] = a.w + (j + r < a.n ? j + r : a.n - 1) * a.w_stride;
  }
};

FATHOM_INLINE void StoreRow(float* y, Vec::F v, int64_t count) {
  if (count >= kLanes) {
    Vec::StoreF(y, v);
  } else if (count > 0) {
    Vec::StorePartF(y, v, static_cast<int>(count));
  }
}
FATHOM_INLINE Vec::F LoadRow(const float* y, int64_t count) {
  if (count >= kLanes) return Vec::LoadF(y);
  return count > 0 ? Vec::LoadPartF(y, static_cast<int>(count)) : Vec::ZeroF();
}

template <int kZero>
constexpr int kZeroShift = kZero == 0 ? -1 : __builtin_ctz(kZero == 0 ? 1 : kZero);

/// What an int32 sum over sub-block `sub` of a block starts from: -zero * sum(q).
template <class Format, int sub_in_block>
FATHOM_INLINE Vec::I StartSum(const ActivationBlock* x) {
  if constexpr (Format::kZero == 0 || Vec::kSignedWeights<Format::kZero>) {
    return Vec::ZeroI();
  } else {
    Vec::I sum;
    if constexpr (Format::kSub == 32) {
      sum = Vec::Set(static_cast<uint32_t>(x->neg_sum));
    } else if constexpr (sub_in_block == 0) {
      sum = Vec::Set(static_cast<uint32_t>(x->neg_sum - x->neg_sum_high));
    } else {
      sum = Vec::Set(static_cast<uint32_t>(x->neg_sum_high));
    }
    return Vec::Shl<kZeroShift<Format::kZero>>(sum);
  }
}

/// scale * sum(q) of sub-block `sub` of a block.
template <int kSub, int sub_in_block>
FATHOM_INLINE Vec::F ScaledSum(const ActivationBlock* x) {
  if constexpr (kSub == 32) {
    return Vec::SetF(x->scaled_sum);
  } else {
    const int32_t neg = sub_in_block == 0 ? x->neg_sum - x->neg_sum_high : x->neg_sum_high;
    return Vec::SetF(x->scale * static_cast<float>(-neg));
  }
}

/// The weight bytes as Dot wants them.
template <class Format>
FATHOM_INLINE Vec::I DotOperand(Vec::I u) {
  if constexpr (Vec::kSignedWeights<Format::kZero> && Format::kZero != 0) {
    return Vec::Sub8(u, Vec::Set(Format::kZero * 0x01010101u));
  } else {
    return u;
  }
}

// ---- one row of activations ----

/// Fetches what comes next while a panel is multiplied: the next panel into L1, and what lies kFar behind its place into
/// L2, so that L1's few miss buffers wait for L2 and not for memory. Spread evenly over the steps of each unit: bursts
/// fill those buffers and stall the core (Q6_K, one core of Zen 5, streaming reads at 41 GB/s: in bursts 13 GB/s, spread
/// 29, with the second stage 36).
constexpr int64_t kFar = 16384;

struct Ahead {
  const uint8_t* near;
  const uint8_t* far;
  /// Beside panel j of a range.
  FATHOM_INLINE Ahead(const PanelArgs& a, int64_t j) : near(At(a, (j + kLanes) * a.w_stride)),
                                                       far(At(a, (j + kLanes) * a.w_stride + kFar)) {}
  FATHOM_INLINE Ahead(const uint8_t* only_far) : near(nullptr), far(only_far) {}
  /// Byte `at` of the range, or of what is read after it.
  FATHOM_INLINE static const uint8_t* At(const PanelArgs& a, int64_t at) {
    const int64_t end = a.n * a.w_stride;
    return at < end ? a.w + at : a.next + (at - end);
  }
};

template <int kUnitBytes, int kSteps, bool kNear>
struct Prefetcher {
  Ahead at;
  template <int step>
  FATHOM_INLINE void Step() const {
    // Rounded up: addresses never lie more than a line apart, or a line of each unit would be left out.
    constexpr int kLines = (kUnitBytes * kLanes + 63) / 64;
    FATHOM_UNROLL
    for (int line = step * kLines / kSteps; line < (step + 1) * kLines / kSteps; ++line) {
      if constexpr (kNear) FATHOM_PREFETCH_L1(at.near + 64 * line);
      FATHOM_PREFETCH_L2(at.far + 64 * line);
    }
  }
  FATHOM_INLINE void NextUnit() {
    at.near += kUnitBytes * kLanes;
    at.far += kUnitBytes * kLanes;
  }
};

template <class Format, int kRows>
struct DotSink {
  static constexpr int kBlockSubs = Format::kBlockK / Format::kSub, kUnitSubs = Format::kUnitK / Format::kSub;
  const ActivationBlock* x[kRows];  // of the unit
  Vec::F scale[kBlockSubs], bias[kBlockSubs];
  Vec::I sum[kRows][kUnitSubs];
  Vec::F out[kRows];
  Prefetcher<Format::kBytes / (Format::kBlockK / Format::kUnitK), Format::kUnitK / 4, true> prefetch;

  FATHOM_INLINE DotSink(const PanelArgs& a, int64_t j) : prefetch{Ahead(a, j)} {
    FATHOM_UNROLL
    for (int i = 0; i < kRows; ++i) {
      x[i] = a.xq[i];
      out[i] = Vec::ZeroF();
    }
  }
  template <int sub>
  FATHOM_INLINE void Scale(Vec::F v) { scale[sub] = v; }
  template <int sub>
  FATHOM_INLINE void Bias(Vec::F v) { bias[sub] = v; }
  template <int k4>
  FATHOM_INLINE void Put(Vec::I u) {
    constexpr int sub = k4 * 4 / Format::kSub;
    prefetch.template Step<k4>();
    const Vec::I w = DotOperand<Format>(u);
    FATHOM_UNROLL
    for (int i = 0; i < kRows; ++i) {
      sum[i][sub] = Vec::template Dot<Vec::kSignedWeights<Format::kZero>>(sum[i][sub], w,
                                                                        Vec::Broadcast4(x[i][k4 / 8].q + k4 % 8 * 4));
    }
  }
  template <int sub>
  FATHOM_INLINE void Begin() {
    if constexpr (sub < kUnitSubs) {
      FATHOM_UNROLL
      for (int i = 0; i < kRows; ++i) {
        sum[i][sub] = StartSum<Format, sub * Format::kSub % 32 / 16>(x[i] + sub * Format::kSub / 32);
      }
      Begin<sub + 1>();
    }
  }
  template <int unit, int sub>
  FATHOM_INLINE void End() {
    if constexpr (sub < kUnitSubs) {
      FATHOM_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const ActivationBlock* block = x[i] + sub * Format::kSub / 32;
        const Vec::F product = Vec::Mul(Vec::ToFloat(sum[i][sub]), scale[unit * kUnitSubs + sub]);
        out[i] = Vec::Fma(product, Vec::SetF(block->scale), out[i]);
        if constexpr (Format::kAffine) {
          const Vec::F x_sum = ScaledSum<Format::kSub, sub * Format::kSub % 32 / 16>(block);
          out[i] = Vec::Fma(bias[unit * kUnitSubs + sub], x_sum, out[i]);
        }
      }
      End<unit, sub + 1>();
    }
  }
  template <int unit>
  FATHOM_INLINE void Units(const Rows& rows, int64_t offset) {
    if constexpr (unit * Format::kUnitK < Format::kBlockK) {
      Begin<0>();
      Format::template Unpack<unit>(rows.p, offset, *this);
      End<unit, 0>();
      prefetch.NextUnit();
      FATHOM_UNROLL
      for (int i = 0; i < kRows; ++i) x[i] += Format::kUnitK / 32;
      Units<unit + 1>(rows, offset);
    }
  }
};

template <class Format, int kRows>
void FewRows(const PanelArgs& a) {
  const int64_t blocks = a.k / Format::kBlockK;
  for (int64_t j = 0; j < a.n; j += kLanes) {
    // Rows lie one after the other: while one panel is read in turns of kLanes rows, the next is fetched in order.
    const Rows rows(a, j);
    DotSink<Format, kRows> sink(a, j);
    for (int64_t b = 0; b < blocks; ++b) {
      Format::Scales(rows.p, b * Format::kBytes, sink);
      sink.template Units<0>(rows, b * Format::kBytes);
    }
    FATHOM_UNROLL
    for (int i = 0; i < kRows; ++i) StoreRow(a.y + i * a.ldy + j, sink.out[i], a.n - j);
  }
}

// ---- tiles ----

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
    for (int c = 0; c < kTileCols; ++c) out[i][c] = Vec::Fma(Vec::Mul(Vec::ToFloat(sum[i][c]), s[c]), x_scale, out[i][c]);
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

template <class Format>
void Quantized(const PanelArgs& a) {
  if (a.m == 1) return FewRows<Format, 1>(a);
  if constexpr (Vec::kFewRows >= 2) {
    if (a.m == 2) return FewRows<Format, 2>(a);
  }
  ManyRows<Format>(a);
}

#include "kernels/cpu/float_panels-inl.h"

// ---- activations ----

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

// ---- ceilings ----

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

// ---- the table ----

PanelFn FindPanel(DType dtype) {
  switch (dtype) {
    case DType::kF32: return Floats<FormatF32>;
    case DType::kF16: return Floats<FormatF16>;
    case DType::kBF16: return Floats<FormatBF16>;
    case DType::kF8_E4M3: return Floats<FormatF8>;
    case DType::kQ4_0: return Quantized<FormatQ4_0>;
    case DType::kQ4_1: return Quantized<FormatQ4_1>;
    case DType::kQ5_0: return Quantized<FormatQ5_0>;
    case DType::kQ5_1: return Quantized<FormatQ5_1>;
    case DType::kQ8_0: return Quantized<FormatQ8_0>;
    case DType::kQ2_K: return Quantized<FormatQ2_K>;
    case DType::kQ3_K: return Quantized<FormatQ3_K>;
    case DType::kQ4_K: return Quantized<FormatQ4_K>;
    case DType::kQ5_K: return Quantized<FormatQ5_K>;
    case DType::kQ6_K: return Quantized<FormatQ6_K>;
    case DType::kIQ4_NL: return Quantized<FormatIQ4_NL>;
    case DType::kIQ4_XS: return Quantized<FormatIQ4_XS>;
    case DType::kMXFP4: return Quantized<FormatMXFP4>;
    default: return nullptr;
  }
}
