// How each block format looks to the products: per sub-block of 16 or 32 columns, w = scale * (u - zero) [+ bias] with
// u an unsigned byte. Included by panels-inl.h, inside its namespace.
//
// A format takes one block from each of Vec::kLanes weight rows, turns sixteen bytes of all rows at a time so that a
// vector holds four consecutive columns of every row, and hands the result to a sink:
//   Scales(rows, offset, sink)     sink.Scale<sub>(F), sink.Bias<sub>(F) for every sub-block of the block
//   Unpack<unit>(rows, offset, sink)  sink.Put<k4>(I): u of columns 4 * k4 .. + 3 of the unit (in any order of k4)
// Turning before unpacking moves each stored byte once, however few bits a weight has.
//
// kBlockK columns a block, kUnitK a call of Unpack, kSub a sub-block. Layouts: tensor/blocks.h.

FATHOM_INLINE Vec::I LowNibbles(Vec::I v) { return Vec::And(v, Vec::Set(0x0f0f0f0f)); }
FATHOM_INLINE Vec::I HighNibbles(Vec::I v) { return Vec::And(Vec::Shr<4>(v), Vec::Set(0x0f0f0f0f)); }
FATHOM_INLINE Vec::F HighHalfToFloat(Vec::I v) { return Vec::HalfToFloat(Vec::Shr<16>(v)); }
FATHOM_INLINE Vec::F Negate(Vec::F v) { return Vec::Cast(Vec::Xor(Vec::CastI(v), Vec::Set(0x80000000u))); }

/// Towards the high bits when n > 0.
template <int n>
FATHOM_INLINE Vec::I ShiftLeft(Vec::I v) {
  if constexpr (n >= 0) {
    return Vec::Shl<n>(v);
  } else {
    return Vec::Shr<-n>(v);
  }
}

/// Byte b of each lane, zero-extended.
template <int b>
FATHOM_INLINE Vec::I Byte(Vec::I v) {
  if constexpr (b == 3) return Vec::Shr<24>(v);
  return Vec::And(Vec::Shr<8 * b>(v), Vec::Set(0xff));
}
template <int b>
FATHOM_INLINE Vec::I SignedByte(Vec::I v) {
  return Vec::Sar<24>(Vec::Shl<24 - 8 * b>(v));
}

/// Four vectors of nibble pairs: low ones to k4 = kLow.., high ones to k4 = kHigh...
template <int kLow, int kHigh, class Sink>
FATHOM_INLINE void PutNibbles(const Vec::I* v, Sink& sink) {
  sink.template Put<kLow + 0>(LowNibbles(v[0]));
  sink.template Put<kLow + 1>(LowNibbles(v[1]));
  sink.template Put<kLow + 2>(LowNibbles(v[2]));
  sink.template Put<kLow + 3>(LowNibbles(v[3]));
  sink.template Put<kHigh + 0>(HighNibbles(v[0]));
  sink.template Put<kHigh + 1>(HighNibbles(v[1]));
  sink.template Put<kHigh + 2>(HighNibbles(v[2]));
  sink.template Put<kHigh + 3>(HighNibbles(v[3]));
}

struct FormatQ4_0 {
  static constexpr int kBlockK = 32, kUnitK = 32, kSub = 32, kBytes = sizeof(BlockQ4_0), kZero = 8;
  static constexpr bool kAffine = false;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    sink.template Scale<0>(Vec::HalfToFloat(Vec::Load4<0>(rows, offset)));
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 2, v);
    PutNibbles<0, 4>(v, sink);
  }
};

struct FormatQ4_1 {
  static constexpr int kBlockK = 32, kUnitK = 32, kSub = 32, kBytes = sizeof(BlockQ4_1), kZero = 0;
  static constexpr bool kAffine = true;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    const Vec::I head = Vec::Load4<0>(rows, offset);
    sink.template Scale<0>(Vec::HalfToFloat(head));
    sink.template Bias<0>(HighHalfToFloat(head));
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 4, v);
    PutNibbles<0, 4>(v, sink);
  }
};

/// Nibbles of v with their fifth bits from `high`.
template <class Sink>
FATHOM_INLINE void PutFiveBits(const Vec::I* v, Vec::I high, Sink& sink) {
  const Vec::I mask = Vec::Set(0x0f0f0f0f);
  sink.template Put<0>(Vec::AndOr(v[0], mask, Vec::SpreadBits<0>(high)));
  sink.template Put<1>(Vec::AndOr(v[1], mask, Vec::SpreadBits<1>(high)));
  sink.template Put<2>(Vec::AndOr(v[2], mask, Vec::SpreadBits<2>(high)));
  sink.template Put<3>(Vec::AndOr(v[3], mask, Vec::SpreadBits<3>(high)));
  sink.template Put<4>(Vec::AndOr(Vec::Shr<4>(v[0]), mask, Vec::SpreadBits<4>(high)));
  sink.template Put<5>(Vec::AndOr(Vec::Shr<4>(v[1]), mask, Vec::SpreadBits<5>(high)));
  sink.template Put<6>(Vec::AndOr(Vec::Shr<4>(v[2]), mask, Vec::SpreadBits<6>(high)));
  sink.template Put<7>(Vec::AndOr(Vec::Shr<4>(v[3]), mask, Vec::SpreadBits<7>(high)));
}

struct FormatQ5_0 {
  static constexpr int kBlockK = 32, kUnitK = 32, kSub = 32, kBytes = sizeof(BlockQ5_0), kZero = 16;
  static constexpr bool kAffine = false;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    sink.template Scale<0>(Vec::HalfToFloat(Vec::Load4<0>(rows, offset)));
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I head[4], v[4];
    Vec::Load16(rows, offset, head);
    Vec::Load16(rows, offset + 6, v);
    PutFiveBits(v, Vec::Or(Vec::Shr<16>(head[0]), Vec::Shl<16>(head[1])), sink);
  }
};

struct FormatQ5_1 {
  static constexpr int kBlockK = 32, kUnitK = 32, kSub = 32, kBytes = sizeof(BlockQ5_1), kZero = 0;
  static constexpr bool kAffine = true;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    const Vec::I head = Vec::Load4<0>(rows, offset);
    sink.template Scale<0>(Vec::HalfToFloat(head));
    sink.template Bias<0>(HighHalfToFloat(head));
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 8, v);
    PutFiveBits(v, Vec::Load4<1>(rows, offset), sink);
  }
};

struct FormatQ8_0 {
  static constexpr int kBlockK = 32, kUnitK = 32, kSub = 32, kBytes = sizeof(BlockQ8_0), kZero = 128;
  static constexpr bool kAffine = false;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    sink.template Scale<0>(Vec::HalfToFloat(Vec::Load4<0>(rows, offset)));
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 2, v);
    Put4<0>(v, sink);
    Vec::Load16(rows, offset + 18, v);
    Put4<4>(v, sink);
  }

 private:
  template <int k4, class Sink>
  FATHOM_INLINE static void Put4(const Vec::I* v, Sink& sink) {
    const Vec::I offset = Vec::Set(0x80808080u);
    sink.template Put<k4 + 0>(Vec::Xor(v[0], offset));
    sink.template Put<k4 + 1>(Vec::Xor(v[1], offset));
    sink.template Put<k4 + 2>(Vec::Xor(v[2], offset));
    sink.template Put<k4 + 3>(Vec::Xor(v[3], offset));
  }
};

/// Nibbles of v through a table of sixteen bytes; the entries are value + zero.
template <int k4, class Sink>
FATHOM_INLINE void PutLookup(const Vec::I* v, const int8_t* table, Sink& sink) {
  sink.template Put<k4 + 0>(Vec::Lookup(table, LowNibbles(v[0])));
  sink.template Put<k4 + 1>(Vec::Lookup(table, LowNibbles(v[1])));
  sink.template Put<k4 + 2>(Vec::Lookup(table, LowNibbles(v[2])));
  sink.template Put<k4 + 3>(Vec::Lookup(table, LowNibbles(v[3])));
  sink.template Put<k4 + 4>(Vec::Lookup(table, HighNibbles(v[0])));
  sink.template Put<k4 + 5>(Vec::Lookup(table, HighNibbles(v[1])));
  sink.template Put<k4 + 6>(Vec::Lookup(table, HighNibbles(v[2])));
  sink.template Put<k4 + 7>(Vec::Lookup(table, HighNibbles(v[3])));
}

struct ShiftedTable {
  alignas(16) int8_t values[16];
};
constexpr ShiftedTable Shift(const int8_t (&values)[16], int zero) {
  ShiftedTable table{};
  for (int i = 0; i < 16; ++i) table.values[i] = static_cast<int8_t>(static_cast<uint8_t>(values[i] + zero));
  return table;
}
constexpr ShiftedTable kIq4NlShifted = Shift(kIq4NlValues, 128);
constexpr ShiftedTable kMxfp4Shifted = Shift(kMxfp4Values, 16);

struct FormatIQ4_NL {
  static constexpr int kBlockK = 32, kUnitK = 32, kSub = 32, kBytes = sizeof(BlockIQ4_NL), kZero = 128;
  static constexpr bool kAffine = false;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    sink.template Scale<0>(Vec::HalfToFloat(Vec::Load4<0>(rows, offset)));
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 2, v);
    PutLookup<0>(v, kIq4NlShifted.values, sink);
  }
};

struct FormatMXFP4 {
  static constexpr int kBlockK = 32, kUnitK = 32, kSub = 32, kBytes = sizeof(BlockMXFP4), kZero = 16;
  static constexpr bool kAffine = false;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    // 2^(e - 128) as a product of two powers that are normal numbers for every e.
    const Vec::I e = Byte<0>(Vec::Load4<0>(rows, offset));
    const Vec::I half = Vec::Shr<1>(e);
    const Vec::F a = Vec::Cast(Vec::Shl<23>(Vec::Add(half, Vec::Set(63))));
    const Vec::F b = Vec::Cast(Vec::Shl<23>(Vec::Add(Vec::Sub(e, half), Vec::Set(63))));
    sink.template Scale<0>(Vec::Mul(a, b));
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 1, v);
    PutLookup<0>(v, kMxfp4Shifted.values, sink);
  }
};

#include "kernels/cpu/formats_k-inl.h"
