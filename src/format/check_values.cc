// Looks for numbers that are not finite in stored tensors: plain floats, FP8, and the scales of quantised blocks.
#include <cstddef>
#include <cstring>
#include <initializer_list>

#include "format/check.h"
#include "tensor/blocks.h"

namespace fathom {
namespace {

// Exponent all ones: infinity or NaN.
template <typename T, T kMask>
int64_t FindMasked(const TensorInfo& tensor) {
  const int64_t count = tensor.bytes / static_cast<int64_t>(sizeof(T));
  constexpr int64_t kChunk = 4096;
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t end = std::min(count, begin + kChunk);
    // Without a branch inside, so that it runs at the speed of memory.
    unsigned bad = 0;
    for (int64_t i = begin; i < end; ++i) {
      T value;
      std::memcpy(&value, tensor.data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
      bad |= static_cast<unsigned>((value & kMask) == kMask);
    }
    if (bad == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      T value;
      std::memcpy(&value, tensor.data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
      if ((value & kMask) == kMask) return i;
    }
  }
  return -1;
}

constexpr uint16_t kF16Exponent = 0x7c00;

// f16 fields at the given offsets of every block.
template <typename Block>
int64_t FindBadScale(const TensorInfo& tensor, int64_t block_elements, std::initializer_list<size_t> offsets) {
  const int64_t blocks = tensor.bytes / static_cast<int64_t>(sizeof(Block));
  for (int64_t b = 0; b < blocks; ++b) {
    for (size_t offset : offsets) {
      uint16_t value;
      std::memcpy(&value, tensor.data + b * static_cast<int64_t>(sizeof(Block)) + static_cast<int64_t>(offset), 2);
      if ((value & kF16Exponent) == kF16Exponent) return b * block_elements;
    }
  }
  return -1;
}

}  // namespace

int64_t FindNonFinite(const TensorInfo& tensor) {
  switch (tensor.dtype) {
    case DType::kF32:
      return FindMasked<uint32_t, 0x7f800000u>(tensor);
    case DType::kF64:
      return FindMasked<uint64_t, 0x7ff0000000000000u>(tensor);
    case DType::kF16:
      return FindMasked<uint16_t, kF16Exponent>(tensor);
    case DType::kBF16:
      return FindMasked<uint16_t, 0x7f80>(tensor);
    case DType::kF8_E4M3:  // no infinities; 0x7f and 0xff are NaN
      return FindMasked<uint8_t, 0x7f>(tensor);
    case DType::kQ4_0:
      return FindBadScale<BlockQ4_0>(tensor, kBlock, {offsetof(BlockQ4_0, d)});
    case DType::kQ4_1:
      return FindBadScale<BlockQ4_1>(tensor, kBlock, {offsetof(BlockQ4_1, d), offsetof(BlockQ4_1, m)});
    case DType::kQ5_0:
      return FindBadScale<BlockQ5_0>(tensor, kBlock, {offsetof(BlockQ5_0, d)});
    case DType::kQ5_1:
      return FindBadScale<BlockQ5_1>(tensor, kBlock, {offsetof(BlockQ5_1, d), offsetof(BlockQ5_1, m)});
    case DType::kQ8_0:
      return FindBadScale<BlockQ8_0>(tensor, kBlock, {offsetof(BlockQ8_0, d)});
    case DType::kQ2_K:
      return FindBadScale<BlockQ2_K>(tensor, kSuperBlock, {offsetof(BlockQ2_K, d), offsetof(BlockQ2_K, dmin)});
    case DType::kQ3_K:
      return FindBadScale<BlockQ3_K>(tensor, kSuperBlock, {offsetof(BlockQ3_K, d)});
    case DType::kQ4_K:
      return FindBadScale<BlockQ4_K>(tensor, kSuperBlock, {offsetof(BlockQ4_K, d), offsetof(BlockQ4_K, dmin)});
    case DType::kQ5_K:
      return FindBadScale<BlockQ5_K>(tensor, kSuperBlock, {offsetof(BlockQ5_K, d), offsetof(BlockQ5_K, dmin)});
    case DType::kQ6_K:
      return FindBadScale<BlockQ6_K>(tensor, kSuperBlock, {offsetof(BlockQ6_K, d)});
    case DType::kIQ4_NL:
      return FindBadScale<BlockIQ4_NL>(tensor, kBlock, {offsetof(BlockIQ4_NL, d)});
    case DType::kIQ4_XS:
      return FindBadScale<BlockIQ4_XS>(tensor, kSuperBlock, {offsetof(BlockIQ4_XS, d)});
    case DType::kMXFP4: {  // e8m0: 255 is NaN
      const int64_t blocks = tensor.bytes / static_cast<int64_t>(sizeof(BlockMXFP4));
      for (int64_t b = 0; b < blocks; ++b) {
        if (tensor.data[b * static_cast<int64_t>(sizeof(BlockMXFP4))] == std::byte{0xff}) return b * kBlock;
      }
      return -1;
    }
    case DType::kI8:
    case DType::kI16:
    case DType::kI32:
    case DType::kI64:
      return -1;
  }
  return -1;
}

}  // namespace fathom
