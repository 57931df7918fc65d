// The GGUF container (docs/formats/gguf.md): metadata and the tensor directory of one file, without meaning attached.
//
// Parse() reads a span that stays owned by the caller and must outlive the GgufFile: keys, strings and tensors point
// into it. Every length, count, type and offset is checked, with the field named in the error; memory used is bounded
// by a small multiple of the header's size. Immutable afterwards, thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace fathom {

enum class GgufType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

/// Bytes of a scalar; 0 for strings, arrays and unknown types.
uint32_t GgufScalarBytes(GgufType type);
std::string_view GgufTypeName(GgufType type);

/// One metadata value, still as bytes in the file.
struct GgufValue {
  GgufType type = GgufType::kUint8;
  GgufType element_type = GgufType::kUint8;  // arrays
  uint64_t count = 0;                        // elements of an array; 1 otherwise
  std::span<const std::byte> payload;        // the scalar, the string's text, or the array's elements
};

struct GgufEntry {
  std::string_view key;
  GgufValue value;
};

struct GgufTensor {
  std::string_view name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // outermost first
  uint64_t offset = 0;         // in the file, not in the data section
  int64_t bytes = 0;
};

class GgufFile {
 public:
  /// bytes: the whole file. The messages do not name the file; the caller knows it.
  static Result<GgufFile> Parse(std::span<const std::byte> bytes);

  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }
  uint64_t data_offset() const { return data_offset_; }
  std::span<const GgufEntry> entries() const { return entries_; }  // in file order
  std::span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* FindTensor(std::string_view name) const;
  const GgufValue* Find(std::string_view key) const;

  // Typed access. nullopt when the key is absent; kCorrupt, with the key, when its type or range does not fit.
  Result<std::optional<int64_t>> Int(std::string_view key) const;   // any integer type
  Result<std::optional<double>> Float(std::string_view key) const;  // any number
  Result<std::optional<bool>> Bool(std::string_view key) const;     // bool or integer 0, 1
  Result<std::optional<std::string_view>> String(std::string_view key) const;
  Result<std::optional<std::vector<std::string>>> Strings(std::string_view key) const;
  Result<std::optional<std::vector<int64_t>>> Ints(std::string_view key) const;
  /// Elements of an array without reading it; nullopt when absent.
  Result<std::optional<uint64_t>> ArrayCount(std::string_view key) const;

 private:
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  uint64_t data_offset_ = 0;
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> entry_index_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
};

/// A value for people: text in quotes, long strings and arrays shortened.
std::string DescribeGgufValue(const GgufValue& value);

/// The name ggml gives a tensor type number ("iq2_xxs"), known to fathom or not; "type 77" otherwise.
std::string GgmlTypeName(uint32_t type);

}  // namespace fathom
