// The formats with super-blocks of 256 columns. Part of formats-inl.h.

struct FormatIQ4_XS {
  static constexpr int kBlockK = 256, kUnitK = 32, kSub = 32, kBytes = sizeof(BlockIQ4_XS), kZero = 128;
  static constexpr bool kAffine = false;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I head[4];
    Vec::Load16(rows, offset, head);
    const Vec::F d = Vec::HalfToFloat(head[0]);
    const Vec::I high = Vec::Shr<16>(head[0]), low = head[1];
    One<0>(d, low, high, sink);
    One<1>(d, low, high, sink);
    One<2>(d, low, high, sink);
    One<3>(d, low, high, sink);
    One<4>(d, low, high, sink);
    One<5>(d, low, high, sink);
    One<6>(d, low, high, sink);
    One<7>(d, low, high, sink);
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 8 + 16 * unit, v);
    PutLookup<0>(v, kIq4NlShifted.values, sink);
  }

 private:
  template <int j, class Sink>
  FATHOM_INLINE static void One(Vec::F d, Vec::I low, Vec::I high, Sink& sink) {
    const Vec::I top = Vec::And(ShiftLeft<4 - 2 * j>(high), Vec::Set(0x30));
    const Vec::I bits = Vec::AndOr(Vec::Shr<4 * j>(low), Vec::Set(15), top);
    sink.template Scale<j>(Vec::Mul(d, Vec::ToFloat(Vec::Sub(bits, Vec::Set(32)))));
  }
};

/// The 6-bit scales and minima of Q4_K and Q5_K.
template <class Sink>
FATHOM_INLINE void PutScalesK4(const uint8_t* const* rows, int64_t offset, Sink& sink) {
  Vec::I head[4];
  Vec::Load16(rows, offset, head);
  const Vec::F d = Vec::HalfToFloat(head[0]), dmin = Negate(HighHalfToFloat(head[0]));
  const Vec::I six = Vec::Set(0x3f3f3f3f), two = Vec::Set(0x30303030), four = Vec::Set(0x0f0f0f0f);
  const Vec::I sc0 = Vec::And(head[1], six), m0 = Vec::And(head[2], six);
  const Vec::I sc1 = Vec::AndOr(head[3], four, Vec::And(Vec::Shr<2>(head[1]), two));
  const Vec::I m1 = Vec::AndOr(Vec::Shr<4>(head[3]), four, Vec::And(Vec::Shr<2>(head[2]), two));
  sink.template Scale<0>(Vec::Mul(d, Vec::ToFloat(Byte<0>(sc0))));
  sink.template Scale<1>(Vec::Mul(d, Vec::ToFloat(Byte<1>(sc0))));
  sink.template Scale<2>(Vec::Mul(d, Vec::ToFloat(Byte<2>(sc0))));
  sink.template Scale<3>(Vec::Mul(d, Vec::ToFloat(Byte<3>(sc0))));
  sink.template Scale<4>(Vec::Mul(d, Vec::ToFloat(Byte<0>(sc1))));
  sink.template Scale<5>(Vec::Mul(d, Vec::ToFloat(Byte<1>(sc1))));
  sink.template Scale<6>(Vec::Mul(d, Vec::ToFloat(Byte<2>(sc1))));
  sink.template Scale<7>(Vec::Mul(d, Vec::ToFloat(Byte<3>(sc1))));
  sink.template Bias<0>(Vec::Mul(dmin, Vec::ToFloat(Byte<0>(m0))));
  sink.template Bias<1>(Vec::Mul(dmin, Vec::ToFloat(Byte<1>(m0))));
  sink.template Bias<2>(Vec::Mul(dmin, Vec::ToFloat(Byte<2>(m0))));
  sink.template Bias<3>(Vec::Mul(dmin, Vec::ToFloat(Byte<3>(m0))));
  sink.template Bias<4>(Vec::Mul(dmin, Vec::ToFloat(Byte<0>(m1))));
  sink.template Bias<5>(Vec::Mul(dmin, Vec::ToFloat(Byte<1>(m1))));
  sink.template Bias<6>(Vec::Mul(dmin, Vec::ToFloat(Byte<2>(m1))));
  sink.template Bias<7>(Vec::Mul(dmin, Vec::ToFloat(Byte<3>(m1))));
}

struct FormatQ4_K {
  static constexpr int kBlockK = 256, kUnitK = 64, kSub = 32, kBytes = sizeof(BlockQ4_K), kZero = 0;
  static constexpr bool kAffine = true;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    PutScalesK4(rows, offset, sink);
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 16 + 32 * unit, v);
    PutNibbles<0, 8>(v, sink);
    Vec::Load16(rows, offset + 32 + 32 * unit, v);
    PutNibbles<4, 12>(v, sink);
  }
};

struct FormatQ5_K {
  static constexpr int kBlockK = 256, kUnitK = 256, kSub = 32, kBytes = sizeof(BlockQ5_K), kZero = 0;
  static constexpr bool kAffine = true;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    PutScalesK4(rows, offset, sink);
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Half<0>(rows, offset, sink);
    Half<1>(rows, offset, sink);
  }

 private:
  // Bytes 16 * half .. + 15 of every 32: the fifth bits of all eight sub-blocks stay in registers.
  template <int half, class Sink>
  FATHOM_INLINE static void Half(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I high[4];
    Vec::Load16(rows, offset + 16 + 16 * half, high);
    Pair<half, 0>(rows, offset, high, sink);
    Pair<half, 1>(rows, offset, high, sink);
    Pair<half, 2>(rows, offset, high, sink);
    Pair<half, 3>(rows, offset, high, sink);
  }
  template <int half, int pair, class Sink>
  FATHOM_INLINE static void Pair(const uint8_t* const* rows, int64_t offset, const Vec::I* high, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 48 + 32 * pair + 16 * half, v);
    One<16 * pair + 4 * half + 0, pair>(v[0], high[0], sink);
    One<16 * pair + 4 * half + 1, pair>(v[1], high[1], sink);
    One<16 * pair + 4 * half + 2, pair>(v[2], high[2], sink);
    One<16 * pair + 4 * half + 3, pair>(v[3], high[3], sink);
  }
  template <int k4, int pair, class Sink>
  FATHOM_INLINE static void One(Vec::I v, Vec::I high, Sink& sink) {
    const Vec::I bit = Vec::Set(0x10101010), mask = Vec::Set(0x0f0f0f0f);
    // Bits 2 * pair and 2 * pair + 1 of the high byte become bit 4.
    const Vec::I low_bit = Vec::And(ShiftLeft<4 - 2 * pair>(high), bit);
    const Vec::I high_bit = Vec::And(ShiftLeft<3 - 2 * pair>(high), bit);
    sink.template Put<k4>(Vec::AndOr(v, mask, low_bit));
    sink.template Put<k4 + 8>(Vec::AndOr(Vec::Shr<4>(v), mask, high_bit));
  }
};

struct FormatQ6_K {
  static constexpr int kBlockK = 256, kUnitK = 128, kSub = 16, kBytes = sizeof(BlockQ6_K), kZero = 32;
  static constexpr bool kAffine = false;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    const Vec::F d = HighHalfToFloat(Vec::Load4<3>(rows, offset + 194));
    Vec::I v[4];
    Vec::Load16(rows, offset + 192, v);
    Four<0>(d, v[0], sink);
    Four<4>(d, v[1], sink);
    Four<8>(d, v[2], sink);
    Four<12>(d, v[3], sink);
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Half<unit, 0>(rows, offset, sink);
    Half<unit, 1>(rows, offset, sink);
  }

 private:
  template <int sub, class Sink>
  FATHOM_INLINE static void Four(Vec::F d, Vec::I bytes, Sink& sink) {
    sink.template Scale<sub + 0>(Vec::Mul(d, Vec::ToFloat(SignedByte<0>(bytes))));
    sink.template Scale<sub + 1>(Vec::Mul(d, Vec::ToFloat(SignedByte<1>(bytes))));
    sink.template Scale<sub + 2>(Vec::Mul(d, Vec::ToFloat(SignedByte<2>(bytes))));
    sink.template Scale<sub + 3>(Vec::Mul(d, Vec::ToFloat(SignedByte<3>(bytes))));
  }
  template <int unit, int half, class Sink>
  FATHOM_INLINE static void Half(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I a[4], b[4], high[4];
    Vec::Load16(rows, offset + 64 * unit + 16 * half, a);
    Vec::Load16(rows, offset + 64 * unit + 32 + 16 * half, b);
    Vec::Load16(rows, offset + 128 + 32 * unit + 16 * half, high);
    One<4 * half + 0>(a[0], b[0], high[0], sink);
    One<4 * half + 1>(a[1], b[1], high[1], sink);
    One<4 * half + 2>(a[2], b[2], high[2], sink);
    One<4 * half + 3>(a[3], b[3], high[3], sink);
  }
  template <int k4, class Sink>
  FATHOM_INLINE static void One(Vec::I a, Vec::I b, Vec::I high, Sink& sink) {
    const Vec::I nibble = Vec::Set(0x0f0f0f0f), two = Vec::Set(0x30303030);
    sink.template Put<k4>(Vec::AndOr(a, nibble, Vec::And(Vec::Shl<4>(high), two)));
    sink.template Put<k4 + 8>(Vec::AndOr(b, nibble, Vec::And(Vec::Shl<2>(high), two)));
    sink.template Put<k4 + 16>(Vec::AndOr(Vec::Shr<4>(a), nibble, Vec::And(high, two)));
    sink.template Put<k4 + 24>(Vec::AndOr(Vec::Shr<4>(b), nibble, Vec::And(Vec::Shr<2>(high), two)));
  }
};

struct FormatQ2_K {
  static constexpr int kBlockK = 256, kUnitK = 128, kSub = 16, kBytes = sizeof(BlockQ2_K), kZero = 0;
  static constexpr bool kAffine = true;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    const Vec::I dd = Vec::Load4<3>(rows, offset + 68);
    const Vec::F d = Vec::HalfToFloat(dd), dmin = Negate(HighHalfToFloat(dd));
    Vec::I v[4];
    Vec::Load16(rows, offset, v);
    Four<0>(d, dmin, v[0], sink);
    Four<4>(d, dmin, v[1], sink);
    Four<8>(d, dmin, v[2], sink);
    Four<12>(d, dmin, v[3], sink);
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Half<unit, 0>(rows, offset, sink);
    Half<unit, 1>(rows, offset, sink);
  }

 private:
  template <int sub, class Sink>
  FATHOM_INLINE static void Four(Vec::F d, Vec::F dmin, Vec::I bytes, Sink& sink) {
    const Vec::I sc = LowNibbles(bytes), m = HighNibbles(bytes);
    sink.template Scale<sub + 0>(Vec::Mul(d, Vec::ToFloat(Byte<0>(sc))));
    sink.template Scale<sub + 1>(Vec::Mul(d, Vec::ToFloat(Byte<1>(sc))));
    sink.template Scale<sub + 2>(Vec::Mul(d, Vec::ToFloat(Byte<2>(sc))));
    sink.template Scale<sub + 3>(Vec::Mul(d, Vec::ToFloat(Byte<3>(sc))));
    sink.template Bias<sub + 0>(Vec::Mul(dmin, Vec::ToFloat(Byte<0>(m))));
    sink.template Bias<sub + 1>(Vec::Mul(dmin, Vec::ToFloat(Byte<1>(m))));
    sink.template Bias<sub + 2>(Vec::Mul(dmin, Vec::ToFloat(Byte<2>(m))));
    sink.template Bias<sub + 3>(Vec::Mul(dmin, Vec::ToFloat(Byte<3>(m))));
  }
  template <int unit, int half, class Sink>
  FATHOM_INLINE static void Half(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4];
    Vec::Load16(rows, offset + 16 + 32 * unit + 16 * half, v);
    One<4 * half + 0>(v[0], sink);
    One<4 * half + 1>(v[1], sink);
    One<4 * half + 2>(v[2], sink);
    One<4 * half + 3>(v[3], sink);
  }
  template <int k4, class Sink>
  FATHOM_INLINE static void One(Vec::I v, Sink& sink) {
    const Vec::I two = Vec::Set(0x03030303);
    sink.template Put<k4>(Vec::And(v, two));
    sink.template Put<k4 + 8>(Vec::And(Vec::Shr<2>(v), two));
    sink.template Put<k4 + 16>(Vec::And(Vec::Shr<4>(v), two));
    sink.template Put<k4 + 24>(Vec::And(Vec::Shr<6>(v), two));
  }
};

struct FormatQ3_K {
  static constexpr int kBlockK = 256, kUnitK = 128, kSub = 16, kBytes = sizeof(BlockQ3_K), kZero = 4;
  static constexpr bool kAffine = false;
  template <class Sink>
  FATHOM_INLINE static void Scales(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    const Vec::F d = HighHalfToFloat(Vec::Load4<3>(rows, offset + 94));
    Vec::I v[4];  // the twelve bytes of scales, and d behind them
    Vec::Load16(rows, offset + 94, v);
    // Bytes 2..13 of the window: move them down to three dwords.
    const Vec::I s0 = Vec::Or(Vec::Shr<16>(v[0]), Vec::Shl<16>(v[1]));
    const Vec::I s1 = Vec::Or(Vec::Shr<16>(v[1]), Vec::Shl<16>(v[2]));
    const Vec::I s2 = Vec::Or(Vec::Shr<16>(v[2]), Vec::Shl<16>(v[3]));
    const Vec::I four = Vec::Set(0x0f0f0f0f), two = Vec::Set(0x30303030);
    Four<0>(d, Vec::AndOr(s0, four, Vec::And(Vec::Shl<4>(s2), two)), sink);
    Four<4>(d, Vec::AndOr(s1, four, Vec::And(Vec::Shl<2>(s2), two)), sink);
    Four<8>(d, Vec::AndOr(Vec::Shr<4>(s0), four, Vec::And(s2, two)), sink);
    Four<12>(d, Vec::AndOr(Vec::Shr<4>(s1), four, Vec::And(Vec::Shr<2>(s2), two)), sink);
  }
  template <int unit, class Sink>
  FATHOM_INLINE static void Unpack(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Half<unit, 0>(rows, offset, sink);
    Half<unit, 1>(rows, offset, sink);
  }

 private:
  template <int sub, class Sink>
  FATHOM_INLINE static void Four(Vec::F d, Vec::I bytes, Sink& sink) {
    const Vec::I zero = Vec::Set(32);
    sink.template Scale<sub + 0>(Vec::Mul(d, Vec::ToFloat(Vec::Sub(Byte<0>(bytes), zero))));
    sink.template Scale<sub + 1>(Vec::Mul(d, Vec::ToFloat(Vec::Sub(Byte<1>(bytes), zero))));
    sink.template Scale<sub + 2>(Vec::Mul(d, Vec::ToFloat(Vec::Sub(Byte<2>(bytes), zero))));
    sink.template Scale<sub + 3>(Vec::Mul(d, Vec::ToFloat(Vec::Sub(Byte<3>(bytes), zero))));
  }
  template <int unit, int half, class Sink>
  FATHOM_INLINE static void Half(const uint8_t* const* rows, int64_t offset, Sink& sink) {
    Vec::I v[4], high[4];
    Vec::Load16(rows, offset + 32 + 32 * unit + 16 * half, v);
    Vec::Load16(rows, offset + 16 * half, high);
    One<4 * half + 0, unit>(v[0], high[0], sink);
    One<4 * half + 1, unit>(v[1], high[1], sink);
    One<4 * half + 2, unit>(v[2], high[2], sink);
    One<4 * half + 3, unit>(v[3], high[3], sink);
  }
  /// Bit kBit of every byte, as 4 or 0.
  template <int kBit>
  FATHOM_INLINE static Vec::I Third(Vec::I high) {
    return Vec::And(ShiftLeft<2 - kBit>(high), Vec::Set(0x04040404));
  }
  template <int k4, int unit, class Sink>
  FATHOM_INLINE static void One(Vec::I v, Vec::I high, Sink& sink) {
    const Vec::I two = Vec::Set(0x03030303);
    sink.template Put<k4>(Vec::AndOr(v, two, Third<4 * unit>(high)));
    sink.template Put<k4 + 8>(Vec::AndOr(Vec::Shr<2>(v), two, Third<4 * unit + 1>(high)));
    sink.template Put<k4 + 16>(Vec::AndOr(Vec::Shr<4>(v), two, Third<4 * unit + 2>(high)));
    sink.template Put<k4 + 24>(Vec::AndOr(Vec::Shr<6>(v), two, Third<4 * unit + 3>(high)));
  }
};
