// The packed 6-bit and 4-bit scale fields of the K-quants and IQ4_XS, unpacked and packed. Each pair of functions is
// the other's inverse. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <cstring>

#include "tensor/blocks.h"

namespace fathom {

/// Q4_K and Q5_K: eight 6-bit scales and eight 6-bit minima in 12 bytes. Bytes 0-3 and 4-7 hold scale and minimum
/// 0-3 in their low six bits; bytes 8-11 the low nibbles of scale and minimum 4-7, whose high two bits sit on top of
/// bytes 0-3 and 4-7.
inline void UnpackScalesQ4K(const uint8_t packed[12], uint8_t scale[8], uint8_t min[8]) {
  for (int i = 0; i < 4; ++i) {
    scale[i] = packed[i] & 63;
    min[i] = packed[4 + i] & 63;
    scale[4 + i] = (packed[8 + i] & 15) | ((packed[i] >> 2) & 0x30);
    min[4 + i] = (packed[8 + i] >> 4) | ((packed[4 + i] >> 2) & 0x30);
  }
}

inline void PackScalesQ4K(const uint8_t scale[8], const uint8_t min[8], uint8_t packed[12]) {
  for (int i = 0; i < 4; ++i) {
    packed[i] = static_cast<uint8_t>((scale[i] & 63) | (scale[4 + i] >> 4) << 6);
    packed[4 + i] = static_cast<uint8_t>((min[i] & 63) | (min[4 + i] >> 4) << 6);
    packed[8 + i] = static_cast<uint8_t>((scale[4 + i] & 15) | (min[4 + i] & 15) << 4);
  }
}

/// Q3_K: sixteen 6-bit scales in 12 bytes, stored plus 32. Bytes 0-7: low nibbles of scale i (low half) and i + 8
/// (high half); bytes 8-11: the high two bits of scales i, i + 4, i + 8, i + 12. Gives values in [-32, 31].
inline void UnpackScalesQ3K(const uint8_t packed[12], int8_t scale[16]) {
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    const int high = (packed[8 + i % 4] >> (2 * (i / 4))) & 3;
    scale[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

inline void PackScalesQ3K(const int8_t scale[16], uint8_t packed[12]) {
  std::memset(packed, 0, 12);
  for (int i = 0; i < 16; ++i) {
    const int stored = scale[i] + 32;
    packed[i % 8] |= static_cast<uint8_t>(i < 8 ? stored & 15 : (stored & 15) << 4);
    packed[8 + i % 4] |= static_cast<uint8_t>((stored >> 4) << (2 * (i / 4)));
  }
}

/// IQ4_XS: eight 6-bit scales, stored plus 32; low nibbles in scales_l, high two bits in scales_h.
inline void UnpackScalesIQ4XS(const BlockIQ4_XS& block, int8_t scale[8]) {
  for (int i = 0; i < 8; ++i) {
    const int low = (block.scales_l[i / 2] >> (4 * (i % 2))) & 15;
    const int high = (block.scales_h >> (2 * i)) & 3;
    scale[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

inline void PackScalesIQ4XS(const int8_t scale[8], BlockIQ4_XS& block) {
  block.scales_h = 0;
  std::memset(block.scales_l, 0, sizeof(block.scales_l));
  for (int i = 0; i < 8; ++i) {
    const int stored = scale[i] + 32;
    block.scales_l[i / 2] |= static_cast<uint8_t>((stored & 15) << (4 * (i % 2)));
    block.scales_h |= static_cast<uint16_t>((stored >> 4) << (2 * i));
  }
}

}  // namespace fathom
