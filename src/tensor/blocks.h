// Bit layouts of the quantised blocks, as ggml stores them (ggml-common.h in https://github.com/ggml-org/ggml; the
// `gguf` Python package's quants.py dequantises the same bytes). Little-endian; every struct is packed by nature.
//
// In the comments: q is the stored integer, y the value.
#pragma once

#include <cstdint>

namespace fathom {

inline constexpr int kBlock = 32;        // elements in a simple block
inline constexpr int kSuperBlock = 256;  // elements in a K-quant super-block

struct BlockQ4_0 {  // y = d (q - 8); element i in the low nibble of qs[i], i + 16 in the high one
  uint16_t d;       // f16
  uint8_t qs[16];
};
struct BlockQ4_1 {  // y = d q + m
  uint16_t d, m;    // f16
  uint8_t qs[16];
};
struct BlockQ5_0 {  // y = d (q - 16); fifth bit of element i is bit i of qh
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ5_1 {  // y = d q + m
  uint16_t d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ8_0 {  // y = d q
  uint16_t d;
  int8_t qs[32];
};
struct BlockQ2_K {     // 16 sub-blocks of 16: y = d (scales & 15) q - dmin (scales >> 4)
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d, dmin;
};
struct BlockQ3_K {     // 16 sub-blocks of 16: y = d (scale6 - 32) (q - (hmask ? 0 : 4))
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];
  uint16_t d;
};
struct BlockQ4_K {     // 8 sub-blocks of 32: y = d sc q - dmin m, sc and m 6 bits each, packed in scales
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qs[128];     // 64 elements in 32 bytes: the low nibbles, then the high ones
};
struct BlockQ5_K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};
struct BlockQ6_K {     // 16 sub-blocks of 16: y = d sc (q - 32)
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};
struct BlockIQ4_NL {   // y = d kIq4NlValues[q]
  uint16_t d;
  uint8_t qs[16];
};
struct BlockIQ4_XS {   // 8 sub-blocks of 32: y = d (scale6 - 32) kIq4NlValues[q]
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};
struct BlockMXFP4 {    // OCP microscaling: y = 2^(e - 127) fp4(q); kMxfp4Values are doubled, so halve the scale
  uint8_t e;
  uint8_t qs[16];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24);
static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ2_K) == 84 && sizeof(BlockQ3_K) == 110);
static_assert(sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176 && sizeof(BlockQ6_K) == 210);
static_assert(sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136 && sizeof(BlockMXFP4) == 17);

inline constexpr int8_t kIq4NlValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace fathom
