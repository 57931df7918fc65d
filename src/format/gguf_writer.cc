#include "format/gguf_writer.h"

#include <type_traits>

#include "format/gguf.h"

namespace fathom {
namespace {

int64_t AlignUp(int64_t value, int64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

// The header is built in memory: a 130k vocabulary is a few megabytes.
class HeaderBytes {
 public:
  template <typename T>
  void Number(T value) {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void String(std::string_view text) {
    Number<uint64_t>(text.size());
    bytes_.append(text);
  }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

 private:
  std::string bytes_;
};

template <typename T>
constexpr GgufType TypeOf() {
  if constexpr (std::is_same_v<T, uint8_t>) return GgufType::kUint8;
  if constexpr (std::is_same_v<T, int8_t>) return GgufType::kInt8;
  if constexpr (std::is_same_v<T, uint16_t>) return GgufType::kUint16;
  if constexpr (std::is_same_v<T, int16_t>) return GgufType::kInt16;
  if constexpr (std::is_same_v<T, uint32_t>) return GgufType::kUint32;
  if constexpr (std::is_same_v<T, int32_t>) return GgufType::kInt32;
  if constexpr (std::is_same_v<T, float>) return GgufType::kFloat32;
  if constexpr (std::is_same_v<T, bool>) return GgufType::kBool;
  if constexpr (std::is_same_v<T, std::string>) return GgufType::kString;
  if constexpr (std::is_same_v<T, uint64_t>) return GgufType::kUint64;
  if constexpr (std::is_same_v<T, int64_t>) return GgufType::kInt64;
  return GgufType::kFloat64;
}

template <typename T>
void PutScalar(HeaderBytes& out, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    out.String(value);
  } else if constexpr (std::is_same_v<T, bool>) {
    out.Number<uint8_t>(value ? 1 : 0);
  } else {
    out.Number(value);
  }
}

struct PutValue {
  HeaderBytes& out;
  template <typename T>
  void operator()(const std::vector<T>& values) const {
    out.Number(GgufType::kArray);
    out.Number(TypeOf<T>());
    out.Number<uint64_t>(values.size());
    for (const auto& value : values) PutScalar<T>(out, value);
  }
  template <typename T>
  void operator()(const T& value) const {
    out.Number(TypeOf<T>());
    PutScalar(out, value);
  }
};

}  // namespace

Result<std::unique_ptr<GgufWriter>> GgufWriter::Create(const std::string& path) { return Create(path, Env::Default()); }

Result<std::unique_ptr<GgufWriter>> GgufWriter::Create(const std::string& path, Env& env) {
  FATHOM_TRY(auto file, FileWriter::Create(env, path));
  return std::unique_ptr<GgufWriter>(new GgufWriter(std::move(file)));
}

void GgufWriter::AddMetadata(std::string_view key, GgufMetadataValue value) {
  entries_.push_back({std::string(key), std::move(value)});
}

void GgufWriter::DeclareTensor(std::string_view name, DType dtype, std::vector<int64_t> shape) {
  tensors_.push_back({std::string(name), dtype, std::move(shape)});
}

Status GgufWriter::Check() {
  if (alignment_ < kAlignment || alignment_ > 65536 || (alignment_ & (alignment_ - 1)) != 0)
    return Fail(ErrorCode::kInvalidArgument, "an alignment of {} is no power of two in [32, 65536]", alignment_);
  std::unordered_set<std::string_view> names;
  for (const Entry& entry : entries_) {
    if (entry.key.empty()) return Fail(ErrorCode::kInvalidArgument, "an empty metadata key");
    if (entry.key == "general.alignment") {
      return Fail(ErrorCode::kInvalidArgument, "general.alignment is the writer's ({})", alignment_);
    }
    if (!names.insert(entry.key).second) return Fail(ErrorCode::kInvalidArgument, "metadata key {} twice", entry.key);
  }
  names.clear();
  for (Tensor& tensor : tensors_) {
    if (tensor.name.empty()) return Fail(ErrorCode::kInvalidArgument, "an empty tensor name");
    if (!names.insert(tensor.name).second) return Fail(ErrorCode::kInvalidArgument, "tensor {} twice", tensor.name);
    if (FindTraits(tensor.dtype) == nullptr || static_cast<int32_t>(tensor.dtype) >= 1000) {
      return Fail(ErrorCode::kInvalidArgument, "tensor {}: its type cannot stand in a GGUF", tensor.name);
    }
    if (tensor.shape.empty() || tensor.shape.size() > 4) {
      return Fail(ErrorCode::kInvalidArgument, "tensor {} has {} dimensions", tensor.name, tensor.shape.size());
    }
    int64_t rows = 1;
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      if (tensor.shape[d] < 1)
        return Fail(ErrorCode::kInvalidArgument, "tensor {}: dimension {} is {}", tensor.name, d, tensor.shape[d]);
      if (d + 1 < tensor.shape.size() && __builtin_mul_overflow(rows, tensor.shape[d], &rows)) {
        return Fail(ErrorCode::kInvalidArgument, "tensor {}: its dimensions overflow", tensor.name);
      }
    }
    const auto row_bytes = RowBytes(tensor.dtype, tensor.shape.back());
    if (!row_bytes) {
      return Fail(ErrorCode::kInvalidArgument, "tensor {}: rows of {} are not whole blocks of {} ({})", tensor.name,
                  tensor.shape.back(), TraitsOf(tensor.dtype).block_size, DTypeName(tensor.dtype));
    }
    // The limit keeps sums of all tensors far from overflow as well.
    if (__builtin_mul_overflow(rows, *row_bytes, &tensor.bytes) || tensor.bytes > (int64_t{1} << 50)) {
      return Fail(ErrorCode::kInvalidArgument, "tensor {}: too large", tensor.name);
    }
  }
  return {};
}

Status GgufWriter::WriteHeader() {
  if (header_written_) return Fail(ErrorCode::kInternal, "{}: header written twice", file_->path());
  if (auto status = Check(); !status) return Prefix(status.error(), file_->path());
  HeaderBytes out;
  for (char c : {'G', 'G', 'U', 'F'}) out.Number(c);
  out.Number<uint32_t>(3);
  out.Number<uint64_t>(tensors_.size());
  const bool aligned = alignment_ != kAlignment;  // has to be said
  out.Number<uint64_t>(entries_.size() + (aligned ? 1 : 0));
  for (const Entry& entry : entries_) {
    out.String(entry.key);
    std::visit(PutValue{out}, entry.value);
  }
  if (aligned) {
    out.String("general.alignment");
    PutValue{out}(static_cast<uint32_t>(alignment_));
  }
  int64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    out.String(tensor.name);
    out.Number<uint32_t>(static_cast<uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) out.Number<uint64_t>(*extent);
    out.Number(static_cast<uint32_t>(tensor.dtype));
    out.Number<uint64_t>(offset);
    offset += AlignUp(tensor.bytes, alignment_);
  }
  FATHOM_CHECK_OK(file_->Append(out.bytes()));
  FATHOM_CHECK_OK(file_->AppendZeros(AlignUp(file_->position(), alignment_) - file_->position()));
  file_bytes_ = file_->position() + offset;
  header_written_ = true;
  return {};
}

Status GgufWriter::WriteTensor(size_t index, std::span<const std::byte> bytes) {
  if (index >= tensors_.size() || index != current_ || written_ != 0) {
    return Fail(ErrorCode::kInternal, "{}: tensor {} written when {} (byte {}) is next", file_->path(), index, current_,
                written_);
  }
  if (header_written_ && static_cast<int64_t>(bytes.size()) != tensors_[index].bytes) {
    return Fail(ErrorCode::kInternal, "{}: tensor {} given {} bytes instead of {}", file_->path(), tensors_[index].name,
                bytes.size(), tensors_[index].bytes);
  }
  return Append(bytes);
}

Status GgufWriter::Append(std::span<const std::byte> bytes) {
  if (!header_written_) return Fail(ErrorCode::kInternal, "{}: data before the header", file_->path());
  while (!bytes.empty()) {
    if (current_ == tensors_.size()) return Fail(ErrorCode::kInternal, "{}: more data than tensors", file_->path());
    const int64_t total = tensors_[current_].bytes;
    const auto piece = static_cast<size_t>(std::min<int64_t>(total - written_, static_cast<int64_t>(bytes.size())));
    FATHOM_CHECK_OK(file_->Append(bytes.first(piece)));
    bytes = bytes.subspan(piece);
    written_ += static_cast<int64_t>(piece);
    if (written_ == total) {
      FATHOM_CHECK_OK(file_->AppendZeros(AlignUp(total, alignment_) - total));
      ++current_;
      written_ = 0;
    }
  }
  return {};
}

Status GgufWriter::Finish() {
  if (!header_written_) return Fail(ErrorCode::kInternal, "{}: finished before the header", file_->path());
  if (current_ != tensors_.size()) {
    return Fail(ErrorCode::kInternal, "{}: finished at byte {} of tensor {}", file_->path(), written_,
                tensors_[current_].name);
  }
  return file_->Finish();
}

}  // namespace fathom
