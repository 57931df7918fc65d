// Typed access to GGUF metadata, and its description for people.
#include <cmath>
#include <cstring>

#include "format/byte_cursor.h"
#include "format/gguf.h"
#include "format/printable.h"

namespace fathom {
namespace {

// Elements that are copied out of one array; above any vocabulary, and it bounds what a hostile one can cost.
constexpr uint64_t kMaxElements = uint64_t{1} << 24;

Status CheckCount(std::string_view key, uint64_t count) {
  if (count <= kMaxElements) return {};
  return Fail(ErrorCode::kResource, "metadata {} has {} elements; at most {} are read", PrintableName(key), count,
              kMaxElements);
}

template <typename T>
T Load(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

// A scalar as an integer; nullopt when it is not one or does not fit.
std::optional<int64_t> ScalarToInt(GgufType type, std::span<const std::byte> bytes) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kBool:
      return Load<uint8_t>(bytes);
    case GgufType::kInt8:
      return Load<int8_t>(bytes);
    case GgufType::kUint16:
      return Load<uint16_t>(bytes);
    case GgufType::kInt16:
      return Load<int16_t>(bytes);
    case GgufType::kUint32:
      return Load<uint32_t>(bytes);
    case GgufType::kInt32:
      return Load<int32_t>(bytes);
    case GgufType::kUint64: {
      const auto value = Load<uint64_t>(bytes);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    case GgufType::kInt64:
      return Load<int64_t>(bytes);
    default:
      return std::nullopt;
  }
}

std::optional<double> ScalarToFloat(GgufType type, std::span<const std::byte> bytes) {
  if (type == GgufType::kFloat32) return static_cast<double>(Load<float>(bytes));
  if (type == GgufType::kFloat64) return Load<double>(bytes);
  if (const auto integer = ScalarToInt(type, bytes)) return static_cast<double>(*integer);
  return std::nullopt;
}

std::unexpected<Error> WrongType(std::string_view key, const GgufValue& value, std::string_view wanted) {
  return Fail(ErrorCode::kCorrupt, "metadata {} is {}; {} is expected", PrintableName(key),
              value.type == GgufType::kArray ? fmt::format("an array of {}", GgufTypeName(value.element_type))
                                             : std::string(GgufTypeName(value.type)),
              wanted);
}

std::string_view TextOf(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string DescribeScalar(GgufType type, std::span<const std::byte> bytes) {
  if (type == GgufType::kBool) return Load<uint8_t>(bytes) != 0 ? "true" : "false";
  if (type == GgufType::kUint64) return fmt::format("{}", Load<uint64_t>(bytes));
  if (type == GgufType::kFloat32) return fmt::format("{}", Load<float>(bytes));
  if (type == GgufType::kFloat64) return fmt::format("{}", Load<double>(bytes));
  return fmt::format("{}", ScalarToInt(type, bytes).value_or(0));
}

}  // namespace

std::string_view GgufTypeName(GgufType type) {
  static constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                "bool", "string", "array", "u64", "i64", "f64"};
  const auto index = static_cast<size_t>(type);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

Result<std::optional<int64_t>> GgufFile::Int(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto integer = ScalarToInt(value->type, value->payload);
  if (!integer) return WrongType(key, *value, "an integer below 2^63");
  return integer;
}

Result<std::optional<double>> GgufFile::Float(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = ScalarToFloat(value->type, value->payload);
  if (!number) return WrongType(key, *value, "a number");
  if (!std::isfinite(*number)) return Fail(ErrorCode::kCorrupt, "metadata {} is not finite", PrintableName(key));
  return number;
}

Result<std::optional<bool>> GgufFile::Bool(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto integer = ScalarToInt(value->type, value->payload);
  if (!integer || *integer < 0 || *integer > 1) return WrongType(key, *value, "a bool");
  return *integer == 1;
}

Result<std::optional<std::string_view>> GgufFile::String(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kString) return WrongType(key, *value, "a string");
  return TextOf(value->payload);
}

Result<std::optional<std::vector<std::string>>> GgufFile::Strings(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kArray || value->element_type != GgufType::kString) {
    return WrongType(key, *value, "an array of strings");
  }
  FATHOM_CHECK_OK(CheckCount(key, value->count));
  std::vector<std::string> out;
  out.reserve(value->count);  // Parse() walked all of them, so the count is real
  ByteCursor cursor(value->payload);
  for (uint64_t i = 0; i < value->count; ++i) {
    std::string_view text;
    if (!cursor.ReadString(text))
      return Fail(ErrorCode::kInternal, "metadata {} changed while read", PrintableName(key));
    out.emplace_back(text);
  }
  return out;
}

Result<std::optional<std::vector<int64_t>>> GgufFile::Ints(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const uint32_t size = value->type == GgufType::kArray ? GgufScalarBytes(value->element_type) : 0;
  if (size == 0) return WrongType(key, *value, "an array of integers");
  FATHOM_CHECK_OK(CheckCount(key, value->count));
  std::vector<int64_t> out;
  out.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto integer = ScalarToInt(value->element_type, value->payload.subspan(i * size, size));
    if (!integer) return WrongType(key, *value, "an array of integers");
    out.push_back(*integer);
  }
  return out;
}

Result<std::optional<uint64_t>> GgufFile::ArrayCount(std::string_view key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->type != GgufType::kArray) return WrongType(key, *value, "an array");
  return value->count;
}

std::string DescribeGgufValue(const GgufValue& value) {
  constexpr uint64_t kShown = 6;
  if (value.type == GgufType::kString) return fmt::format("\"{}\"", PrintableName(TextOf(value.payload)));
  if (value.type != GgufType::kArray) return DescribeScalar(value.type, value.payload);
  std::string out = fmt::format("[{} × {}]", value.count, GgufTypeName(value.element_type));
  const uint32_t size = GgufScalarBytes(value.element_type);
  ByteCursor cursor(value.payload);
  for (uint64_t i = 0; i < std::min(value.count, kShown) && value.element_type != GgufType::kArray; ++i) {
    out += i == 0 ? " " : ", ";
    std::string_view text;
    if (size > 0) {
      out += DescribeScalar(value.element_type, value.payload.subspan(i * size, size));
    } else if (cursor.ReadString(text)) {
      out += fmt::format("\"{}\"", PrintableName(text, 20));
    }
  }
  if (value.count > kShown) out += ", …";
  return out;
}

std::string GgmlTypeName(uint32_t type) {
  // ggml.h, enum ggml_type; types removed from ggml (repacked layouts and the like) have no name here.
  static constexpr std::pair<uint32_t, std::string_view> kNames[] = {
      {0, "f32"},      {1, "f16"},     {2, "q4_0"},     {3, "q4_1"},   {6, "q5_0"},    {7, "q5_1"},   {8, "q8_0"},
      {9, "q8_1"},     {10, "q2_k"},   {11, "q3_k"},    {12, "q4_k"},  {13, "q5_k"},   {14, "q6_k"},  {15, "q8_k"},
      {16, "iq2_xxs"}, {17, "iq2_xs"}, {18, "iq3_xxs"}, {19, "iq1_s"}, {20, "iq4_nl"}, {21, "iq3_s"}, {22, "iq2_s"},
      {23, "iq4_xs"},  {24, "i8"},     {25, "i16"},     {26, "i32"},   {27, "i64"},    {28, "f64"},   {29, "iq1_m"},
      {30, "bf16"},    {34, "tq1_0"},  {35, "tq2_0"},   {39, "mxfp4"}, {40, "nvfp4"},
  };
  for (const auto& [number, name] : kNames) {
    if (number == type) return std::string(name);
  }
  return fmt::format("number {}", type);
}

}  // namespace fathom
