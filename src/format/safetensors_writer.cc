#include "format/safetensors_writer.h"

#include <fmt/ranges.h>

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <unordered_set>

#include "format/printable.h"

namespace fathom {
namespace {

// The reader's limits (safetensors.cc), so that nothing is written that fathom itself would refuse.
constexpr size_t kMaxHeaderBytes = 100'000'000;
constexpr size_t kMaxDims = 8;
constexpr size_t kMaxNameBytes = 65535;

std::optional<std::string_view> SafetensorsName(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "F64";
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kI64:
      return "I64";
    case DType::kI32:
      return "I32";
    case DType::kI16:
      return "I16";
    case DType::kI8:
      return "I8";
    case DType::kF8_E4M3:
      return "F8_E4M3";
    default:
      return std::nullopt;
  }
}

// Bytes that are not UTF-8 would make a header that no reader takes; nlohmann writes U+FFFD for them.
std::string Quoted(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Result<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(const std::string& path) {
  return Create(path, Env::Default());
}

Result<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(const std::string& path, Env& env) {
  FATHOM_TRY(auto file, FileWriter::Create(env, path));
  return std::unique_ptr<SafetensorsWriter>(new SafetensorsWriter(std::move(file)));
}

void SafetensorsWriter::AddMetadata(std::string_view key, std::string_view value) {
  metadata_.emplace_back(key, value);
}

void SafetensorsWriter::Declare(std::string_view name, DType dtype, std::vector<int64_t> shape) {
  tensors_.push_back({std::string(name), dtype, std::move(shape)});
}

Status SafetensorsWriter::WriteHeader() {
  if (header_written_) return Fail(ErrorCode::kInternal, "{}: header written twice", file_->path());
  const auto refuse = [&](std::string_view name, std::string_view why) {
    return Fail(ErrorCode::kInvalidArgument, "{}: {}: {}", file_->path(), PrintableName(name), why);
  };
  std::unordered_set<std::string> names;  // as written: two broken names may become one
  std::string header = "{";
  for (const auto& [key, value] : metadata_) {
    if (!names.insert(Quoted(key)).second) return refuse(key, "a metadata key twice");
    header += header.size() == 1 ? "\"__metadata__\":{" : ",";
    header += Quoted(key) + ":" + Quoted(value);
  }
  if (!metadata_.empty()) header += "}";
  names.clear();
  for (Tensor& tensor : tensors_) {
    if (tensor.name.empty() || tensor.name.size() > kMaxNameBytes || tensor.name == "__metadata__") {
      return refuse(tensor.name, "no name for a tensor");
    }
    if (!names.insert(Quoted(tensor.name)).second) return refuse(tensor.name, "a tensor twice");
    const auto dtype = SafetensorsName(tensor.dtype);
    if (!dtype) {
      const DTypeTraits* traits = FindTraits(tensor.dtype);
      return refuse(tensor.name, fmt::format("safetensors has no type {}", traits ? traits->name : "of that number"));
    }
    if (tensor.shape.size() > kMaxDims) return refuse(tensor.name, "more than 8 dimensions");
    int64_t elements = 1;
    bool empty = false;
    for (const int64_t extent : tensor.shape) {
      if (extent < 0) return refuse(tensor.name, "a negative extent");
      // Zeros are set aside: they must not hide an overflow of the others.
      if (extent == 0) {
        empty = true;
      } else if (__builtin_mul_overflow(elements, extent, &elements)) {
        return refuse(tensor.name, "its shape overflows");
      }
    }
    const auto bytes = RowBytes(tensor.dtype, empty ? 0 : elements);
    const int64_t begin = data_bytes_;
    if (!bytes || __builtin_add_overflow(data_bytes_, *bytes, &data_bytes_)) return refuse(tensor.name, "too large");
    tensor.bytes = *bytes;
    header += fmt::format(R"({}{}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", header.size() == 1 ? "" : ",",
                          Quoted(tensor.name), *dtype, fmt::join(tensor.shape, ","), begin, data_bytes_);
  }
  header += "}";
  // Spaces until the data begins at a multiple of 8, as the reference implementation pads.
  header.resize((header.size() + 7) / 8 * 8, ' ');
  if (header.size() > kMaxHeaderBytes) {
    return Fail(ErrorCode::kInvalidArgument, "{}: a header of {} bytes; {} is the limit", file_->path(), header.size(),
                kMaxHeaderBytes);
  }
  std::array<std::byte, 8> length;
  const uint64_t header_bytes = header.size();
  for (size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::byte>(header_bytes >> (8 * i));
  FATHOM_CHECK_OK(file_->Append(length));
  FATHOM_CHECK_OK(file_->Append(std::as_bytes(std::span(header))));
  header_written_ = true;
  return {};
}

Status SafetensorsWriter::Append(std::span<const std::byte> bytes) {
  if (!header_written_) return Fail(ErrorCode::kInternal, "{}: data before the header", file_->path());
  if (static_cast<int64_t>(bytes.size()) > data_bytes_ - written_) {
    return Fail(ErrorCode::kInvalidArgument, "{}: {} more bytes after {} of {}", file_->path(), bytes.size(), written_,
                data_bytes_);
  }
  FATHOM_CHECK_OK(file_->Append(bytes));
  written_ += static_cast<int64_t>(bytes.size());
  return {};
}

Status SafetensorsWriter::Finish() {
  if (!header_written_) return Fail(ErrorCode::kInternal, "{}: finished before the header", file_->path());
  if (written_ != data_bytes_) {
    return Fail(ErrorCode::kInvalidArgument, "{}: finished after {} of {} bytes", file_->path(), written_, data_bytes_);
  }
  return file_->Finish();
}

}  // namespace fathom
