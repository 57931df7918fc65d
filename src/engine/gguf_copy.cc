#include "engine/gguf_copy.h"

#include <cstring>

#include "format/gguf.h"
#include "format/printable.h"
#include "io/env.h"

namespace fathom {
namespace {

template <typename T>
T Scalar(const GgufValue& value) {
  T out;
  std::memcpy(&out, value.payload.data(), sizeof(T));
  return out;
}

template <typename T>
std::vector<T> Numbers(const GgufValue& value) {
  std::vector<T> out(value.count);
  if (value.count > 0) std::memcpy(out.data(), value.payload.data(), value.count * sizeof(T));
  return out;
}

std::unexpected<Error> CannotCopy(std::string_view key) {
  return Fail(ErrorCode::kUnsupported, "metadata {} is of a type that cannot be copied", PrintableName(key));
}

Result<GgufMetadataValue> ArrayOf(const GgufFile& file, const GgufEntry& entry) {
  const GgufValue& value = entry.value;
  switch (value.element_type) {
    case GgufType::kString: {
      FATHOM_TRY(auto strings, file.Strings(entry.key));
      return GgufMetadataValue(std::move(*strings));
    }
    case GgufType::kInt32: return GgufMetadataValue(Numbers<int32_t>(value));
    case GgufType::kUint32: return GgufMetadataValue(Numbers<uint32_t>(value));
    case GgufType::kInt64: return GgufMetadataValue(Numbers<int64_t>(value));
    case GgufType::kFloat32: return GgufMetadataValue(Numbers<float>(value));
    case GgufType::kBool: {
      const auto bytes = Numbers<uint8_t>(value);
      return GgufMetadataValue(std::vector<bool>(bytes.begin(), bytes.end()));
    }
    default: return CannotCopy(entry.key);
  }
}

Result<GgufMetadataValue> ValueOf(const GgufFile& file, const GgufEntry& entry) {
  const GgufValue& value = entry.value;
  switch (value.type) {
    case GgufType::kUint8: return Scalar<uint8_t>(value);
    case GgufType::kInt8: return Scalar<int8_t>(value);
    case GgufType::kUint16: return Scalar<uint16_t>(value);
    case GgufType::kInt16: return Scalar<int16_t>(value);
    case GgufType::kUint32: return Scalar<uint32_t>(value);
    case GgufType::kInt32: return Scalar<int32_t>(value);
    case GgufType::kFloat32: return Scalar<float>(value);
    case GgufType::kBool: return GgufMetadataValue(Scalar<uint8_t>(value) != 0);
    case GgufType::kUint64: return Scalar<uint64_t>(value);
    case GgufType::kInt64: return Scalar<int64_t>(value);
    case GgufType::kFloat64: return Scalar<double>(value);
    case GgufType::kString:
      return std::string(reinterpret_cast<const char*>(value.payload.data()), value.payload.size());
    case GgufType::kArray: return ArrayOf(file, entry);
  }
  return CannotCopy(entry.key);
}

}  // namespace

Status CopyGgufMetadata(const std::string& path, const GgufCopyChanges& changes, GgufWriter& writer) {
  FATHOM_TRY(const auto mapped, Env::Default().Map(path, {}));
  auto file = GgufFile::Parse(mapped->bytes());
  if (!file) return Prefix(file.error(), path);
  bool named = false;
  for (const GgufEntry& entry : file->entries()) {
    const std::string_view key = entry.key;
    if (key == "general.alignment" || key.starts_with("split.")) continue;
    const bool types = key == "general.file_type" || key == "general.quantization_version";
    if (types && changes.file_type >= 0) continue;
    if (changes.block_count > 0 && key.ends_with(".nextn_predict_layers")) continue;
    if (changes.block_count > 0 && key.ends_with(".block_count")) {
      writer.AddMetadata(key, static_cast<uint32_t>(changes.block_count));
    } else if (key == "general.name" && !changes.name.empty()) {
      named = true;
      writer.AddMetadata(key, changes.name);
    } else {
      auto value = ValueOf(*file, entry);
      if (!value) return Prefix(value.error(), path);
      writer.AddMetadata(key, std::move(*value));
    }
  }
  if (!named && !changes.name.empty()) writer.AddMetadata("general.name", changes.name);
  if (changes.file_type < 0) return {};
  writer.AddMetadata("general.file_type", static_cast<uint32_t>(changes.file_type));
  writer.AddMetadata("general.quantization_version", uint32_t{2});
  return {};
}

}  // namespace fathom
