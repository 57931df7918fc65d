#include "format/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "format/byte_cursor.h"
#include "format/printable.h"

namespace fathom {
namespace {

constexpr int kMaxArrayDepth = 4;
constexpr uint64_t kMaxNameBytes = 65535;
// Far above any model; they keep what is remembered of a huge hostile header small.
constexpr uint64_t kMaxEntries = 100'000;
constexpr uint64_t kMaxTensors = 1'000'000;
// The least a metadata entry (empty key is refused later) and a tensor entry can occupy.
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

bool IsKnownType(uint32_t type) { return type <= static_cast<uint32_t>(GgufType::kFloat64); }

std::unexpected<Error> Truncated(std::string_view what, const ByteCursor& cursor) {
  return Fail(ErrorCode::kCorrupt, "{} reaches past the end of the file (at byte {}, {} bytes left)", what,
              cursor.position(), cursor.remaining());
}

// Walks the elements of an array, strings and nested arrays included, without keeping any.
Status SkipArray(ByteCursor& cursor, std::string_view key, GgufType element, uint64_t count, int depth) {
  const auto past_end = [&] { return Truncated(fmt::format("metadata {}", PrintableName(key)), cursor); };
  if (const uint32_t size = GgufScalarBytes(element); size > 0) {
    if (count > cursor.remaining() / size || !cursor.Skip(count * size)) return past_end();
    return {};
  }
  // Strings take 8 bytes at least, arrays 12; this bounds the loop by the size of the file.
  if (count > cursor.remaining() / 8) return past_end();
  for (uint64_t i = 0; i < count; ++i) {
    if (element == GgufType::kString) {
      std::string_view text;
      if (!cursor.ReadString(text)) return past_end();
      continue;
    }
    uint32_t inner = 0;
    uint64_t inner_count = 0;
    if (!cursor.Read(inner) || !cursor.Read(inner_count)) return past_end();
    if (!IsKnownType(inner)) {
      return Fail(ErrorCode::kCorrupt, "metadata {}: unknown value type {}", PrintableName(key), inner);
    }
    if (depth >= kMaxArrayDepth) {
      return Fail(ErrorCode::kCorrupt, "metadata {}: arrays nested more than {} deep", PrintableName(key),
                  kMaxArrayDepth);
    }
    FATHOM_CHECK_OK(SkipArray(cursor, key, static_cast<GgufType>(inner), inner_count, depth + 1));
  }
  return {};
}

Result<GgufValue> ReadValue(ByteCursor& cursor, std::span<const std::byte> bytes, std::string_view key) {
  const auto past_end = [&] { return Truncated(fmt::format("metadata {}", PrintableName(key)), cursor); };
  uint32_t type = 0;
  if (!cursor.Read(type)) return past_end();
  if (!IsKnownType(type)) {
    return Fail(ErrorCode::kCorrupt, "metadata {}: unknown value type {}", PrintableName(key), type);
  }
  GgufValue value;
  value.type = static_cast<GgufType>(type);
  value.count = 1;
  if (value.type == GgufType::kString) {
    std::string_view text;
    if (!cursor.ReadString(text)) return past_end();
    value.payload = std::as_bytes(std::span(text));
    return value;
  }
  if (value.type != GgufType::kArray) {
    if (!cursor.Take(GgufScalarBytes(value.type), value.payload)) return past_end();
    if (value.type == GgufType::kBool && std::to_integer<int>(value.payload[0]) > 1) {
      return Fail(ErrorCode::kCorrupt, "metadata {}: a bool must be 0 or 1, not {}", PrintableName(key),
                  std::to_integer<int>(value.payload[0]));
    }
    return value;
  }
  uint32_t element = 0;
  if (!cursor.Read(element) || !cursor.Read(value.count)) return past_end();
  if (!IsKnownType(element)) {
    return Fail(ErrorCode::kCorrupt, "metadata {}: unknown array element type {}", PrintableName(key), element);
  }
  value.element_type = static_cast<GgufType>(element);
  const uint64_t begin = cursor.position();
  FATHOM_CHECK_OK(SkipArray(cursor, key, value.element_type, value.count, 1));
  value.payload = bytes.subspan(begin, cursor.position() - begin);
  return value;
}

Result<GgufTensor> ReadTensor(ByteCursor& cursor, uint64_t index) {
  GgufTensor tensor;
  if (!cursor.ReadString(tensor.name)) return Truncated(fmt::format("the name of tensor {}", index), cursor);
  if (tensor.name.empty() || tensor.name.size() > kMaxNameBytes) {
    return Fail(ErrorCode::kCorrupt, "tensor {} has a name of {} bytes", index, tensor.name.size());
  }
  const auto past_end = [&] {
    return Truncated(fmt::format("the entry of tensor {}", PrintableName(tensor.name)), cursor);
  };
  uint32_t n_dims = 0;
  if (!cursor.Read(n_dims)) return past_end();
  if (n_dims < 1 || n_dims > 4) {
    return Fail(ErrorCode::kCorrupt, "tensor {} has {} dimensions; 1 to 4 are possible", PrintableName(tensor.name),
                n_dims);
  }
  tensor.shape.resize(n_dims);
  int64_t rows = 1;
  for (uint32_t d = 0; d < n_dims; ++d) {
    uint64_t extent = 0;
    if (!cursor.Read(extent)) return past_end();
    if (extent < 1 || extent > static_cast<uint64_t>(INT64_MAX)) {
      return Fail(ErrorCode::kCorrupt, "tensor {}: dimension {} is {}", PrintableName(tensor.name), d, extent);
    }
    tensor.shape[n_dims - 1 - d] = static_cast<int64_t>(extent);
    if (d > 0 && __builtin_mul_overflow(rows, static_cast<int64_t>(extent), &rows)) {
      return Fail(ErrorCode::kCorrupt, "tensor {}: its dimensions overflow", PrintableName(tensor.name));
    }
  }
  uint32_t type = 0;
  if (!cursor.Read(type) || !cursor.Read(tensor.offset)) return past_end();
  tensor.dtype = static_cast<DType>(type);
  // Numbers from 1000 on are fathom's own (not ggml's) and never appear in files.
  const DTypeTraits* traits = type < 1000 ? FindTraits(tensor.dtype) : nullptr;
  if (traits == nullptr) {
    return Fail(ErrorCode::kUnsupported, "tensor {} has type {}, which fathom cannot read", PrintableName(tensor.name),
                GgmlTypeName(type));
  }
  const auto row_bytes = RowBytes(tensor.dtype, tensor.shape.back());
  if (!row_bytes) {
    return Fail(ErrorCode::kCorrupt, "tensor {}: rows of {} elements are not whole blocks of {} ({})",
                PrintableName(tensor.name), tensor.shape.back(), traits->block_size, traits->name);
  }
  if (__builtin_mul_overflow(rows, *row_bytes, &tensor.bytes)) {
    return Fail(ErrorCode::kCorrupt, "tensor {}: its size in bytes overflows", PrintableName(tensor.name));
  }
  return tensor;
}

// Makes offsets absolute and checks that every tensor lies in the file and shares no byte with another.
Status PlaceTensors(std::vector<GgufTensor>& tensors, uint64_t data_offset, uint64_t alignment, uint64_t file_size) {
  for (GgufTensor& tensor : tensors) {
    if (tensor.offset % alignment != 0) {
      return Fail(ErrorCode::kCorrupt, "tensor {}: offset {} is not a multiple of the alignment {}",
                  PrintableName(tensor.name), tensor.offset, alignment);
    }
    uint64_t end = 0;
    if (__builtin_add_overflow(tensor.offset, data_offset, &tensor.offset) ||
        __builtin_add_overflow(tensor.offset, static_cast<uint64_t>(tensor.bytes), &end) || end > file_size) {
      return Fail(ErrorCode::kCorrupt, "tensor {} ({} bytes at {}) ends past the end of the file ({} bytes)",
                  PrintableName(tensor.name), tensor.bytes, tensor.offset, file_size);
    }
  }
  std::vector<const GgufTensor*> by_offset;
  by_offset.reserve(tensors.size());
  for (const GgufTensor& tensor : tensors) by_offset.push_back(&tensor);
  std::sort(by_offset.begin(), by_offset.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const GgufTensor& left = *by_offset[i - 1];
    if (left.offset + static_cast<uint64_t>(left.bytes) > by_offset[i]->offset) {
      return Fail(ErrorCode::kCorrupt, "tensors {} and {} overlap", PrintableName(left.name),
                  PrintableName(by_offset[i]->name));
    }
  }
  return {};
}

}  // namespace

uint32_t GgufScalarBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

Result<GgufFile> GgufFile::Parse(std::span<const std::byte> bytes) {
  ByteCursor cursor(bytes);
  char magic[4];
  if (!cursor.Read(magic)) return Fail(ErrorCode::kCorrupt, "too short for a GGUF file ({} bytes)", bytes.size());
  if (std::memcmp(magic, "GGUF", 4) != 0)
    return Fail(ErrorCode::kCorrupt, "not a GGUF file (it does not begin with \"GGUF\")");
  GgufFile file;
  uint64_t tensor_count = 0, entry_count = 0;
  if (!cursor.Read(file.version_)) return Truncated("the header", cursor);
  if (file.version_ != 0 && (file.version_ & 0xffff) == 0) {
    return Fail(ErrorCode::kUnsupported, "a big-endian GGUF file; fathom reads little-endian ones");
  }
  if (file.version_ != 2 && file.version_ != 3) {
    return Fail(ErrorCode::kUnsupported, "GGUF version {}; fathom reads versions 2 and 3", file.version_);
  }
  if (!cursor.Read(tensor_count) || !cursor.Read(entry_count)) return Truncated("the header", cursor);
  if (entry_count > kMaxEntries || tensor_count > kMaxTensors) {
    return Fail(ErrorCode::kCorrupt,
                "metadata_count is {} and tensor_count {}; at most {} and {} are read (a damaged header?)", entry_count,
                tensor_count, kMaxEntries, kMaxTensors);
  }
  if (entry_count > cursor.remaining() / kMinEntryBytes) {
    return Fail(ErrorCode::kCorrupt, "metadata_count is {}, more than {} bytes can hold", entry_count,
                cursor.remaining());
  }
  if (tensor_count > cursor.remaining() / kMinTensorBytes) {
    return Fail(ErrorCode::kCorrupt, "tensor_count is {}, more than {} bytes can hold", tensor_count,
                cursor.remaining());
  }

  // Grown as entries turn out to be there, not reserved by the claimed count.
  for (uint64_t i = 0; i < entry_count; ++i) {
    GgufEntry entry;
    if (!cursor.ReadString(entry.key)) return Truncated(fmt::format("the key of metadata entry {}", i), cursor);
    if (entry.key.empty() || entry.key.size() > kMaxNameBytes) {
      return Fail(ErrorCode::kCorrupt, "metadata entry {} has a key of {} bytes", i, entry.key.size());
    }
    FATHOM_TRY(entry.value, ReadValue(cursor, bytes, entry.key));
    if (!file.entry_index_.emplace(entry.key, file.entries_.size()).second) {
      return Fail(ErrorCode::kCorrupt, "metadata key {} appears twice", PrintableName(entry.key));
    }
    file.entries_.push_back(entry);
  }

  FATHOM_TRY(const auto alignment, file.Int("general.alignment"));
  if (alignment) {
    if (*alignment < 8 || *alignment > 65536 || (*alignment & (*alignment - 1)) != 0) {
      return Fail(ErrorCode::kCorrupt, "general.alignment is {}; it must be a power of two from 8 to 65536",
                  *alignment);
    }
    file.alignment_ = static_cast<uint64_t>(*alignment);
  }

  for (uint64_t i = 0; i < tensor_count; ++i) {
    FATHOM_TRY(GgufTensor tensor, ReadTensor(cursor, i));
    if (!file.tensor_index_.emplace(tensor.name, file.tensors_.size()).second) {
      return Fail(ErrorCode::kCorrupt, "tensor {} appears twice", PrintableName(tensor.name));
    }
    file.tensors_.push_back(std::move(tensor));
  }

  // Rounding up cannot overflow: the position is within a file in memory.
  file.data_offset_ = (cursor.position() + file.alignment_ - 1) / file.alignment_ * file.alignment_;
  FATHOM_CHECK_OK(PlaceTensors(file.tensors_, file.data_offset_, file.alignment_, bytes.size()));
  return file;
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto found = entry_index_.find(key);
  return found == entry_index_.end() ? nullptr : &entries_[found->second].value;
}

}  // namespace fathom
