// Products of panels of weight rows with rows of activations, written once for all instruction sets. Included by each
// kernels_*.cc inside a namespace and target region of its own, after the Vec of that instruction set.
//
// Weight rows are the lanes of a vector: every output has its own lane, so nothing is ever summed across lanes, and
// each output is summed in the same order (blocks of 32 columns one after the other) whether it is computed alone or in
// a tile. Results for a row of activations therefore do not depend, to the bit, on the rows computed beside it.
//
//   one row of activations (FewRows):  unpack in registers and multiply at once; each weight byte is read once, and the
//                             next panel is fetched in the order of its addresses
//   more rows (ManyRows):     unpack kTileCols vectors of rows by kSlab columns into scratch that stays in L1, then
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

/// Fetches what comes next while a panel is multiplied: the next panel into L1, and what lies kFar behind its place
/// into L2, so that L1's few miss buffers wait for L2 and not for memory. Spread evenly over the steps of each unit:
/// bursts fill those buffers and stall the core (Q6_K, one core of Zen 5, streaming reads at 41 GB/s: in bursts
/// 13 GB/s, spread 29, with the second stage 36).
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

#include "kernels/cpu/tiles-inl.h"

template <class Format>
void Quantized(const PanelArgs& a) {
  if (a.m == 1) return FewRows<Format, 1>(a);
  if constexpr (Vec::kFewRows >= 2) {
    if (a.m == 2) return FewRows<Format, 2>(a);
  }
  ManyRows<Format>(a);
}

#include "kernels/cpu/float_panels-inl.h"

#include "kernels/cpu/extras-inl.h"

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
