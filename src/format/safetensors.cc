#include "format/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "format/byte_cursor.h"
#include "format/printable.h"

namespace fathom {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr size_t kMaxDims = 8;
constexpr size_t kMaxNameBytes = 65535;

std::optional<DType> DTypeOf(std::string_view name) {
  static constexpr std::pair<std::string_view, DType> kNames[] = {
      {"F64", DType::kF64},   {"F32", DType::kF32}, {"F16", DType::kF16},
      {"BF16", DType::kBF16}, {"I64", DType::kI64}, {"I32", DType::kI32},
      {"I16", DType::kI16},   {"I8", DType::kI8},   {"F8_E4M3", DType::kF8_E4M3}};
  for (const auto& [text, dtype] : kNames) {
    if (text == name) return dtype;
  }
  return std::nullopt;
}

// Takes the header apart event by event: there is no tree, so its size and nesting cost nothing, and anything but the
// one form that a header has is refused where it stands.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  SafetensorsFile file;
  std::optional<Error> error;
  bool done = false;

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool number_integer(number_integer_t value) override {
    return Stop(ErrorCode::kCorrupt, fmt::format("{}: the number {}", Where(), value));
  }
  bool number_float(number_float_t, const string_t& text) override { return Unexpected(PrintableName(text, 30)); }
  bool binary(binary_t&) override { return Unexpected("binary"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::kShape) {
      if (tensor_.shape.size() == kMaxDims)
        return Stop(ErrorCode::kCorrupt, fmt::format("{}: more than {} dimensions", Where(), kMaxDims));
      if (value > static_cast<uint64_t>(INT64_MAX))
        return Stop(ErrorCode::kCorrupt, fmt::format("{}: the extent {}", Where(), value));
      tensor_.shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsets) {
      if (offsets_seen_ == 2) return Stop(ErrorCode::kCorrupt, fmt::format("{}: more than two numbers", Where()));
      (offsets_seen_++ == 0 ? begin_ : end_) = value;
      return true;
    }
    return Unexpected("a number");
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadata) {
      file.metadata.emplace_back(key_, value);
      return true;
    }
    if (state_ != State::kTensor || key_ != "dtype") return Unexpected("a string");
    const auto dtype = DTypeOf(value);
    if (!dtype) {
      return Stop(ErrorCode::kUnsupported, fmt::format("tensor {} has dtype {}, which fathom cannot read",
                                                       PrintableName(tensor_.name), PrintableName(value, 30)));
    }
    tensor_.dtype = *dtype;
    return true;
  }

  bool start_object(size_t) override {
    switch (state_) {
      case State::kBefore:
        state_ = State::kRoot;
        return true;
      case State::kRoot:
        if (key_ == "__metadata__") {
          state_ = State::kMetadata;
        } else {
          state_ = State::kTensor;
          tensor_ = {};
          tensor_.name = key_;
          seen_ = 0;
          offsets_seen_ = 0;
        }
        return true;
      default:
        return Unexpected("an object");
    }
  }

  bool key(string_t& value) override {
    key_ = value;
    if (state_ == State::kRoot) {
      if (value.empty() || value.size() > kMaxNameBytes) {
        return Stop(ErrorCode::kCorrupt, fmt::format("a tensor name of {} bytes", value.size()));
      }
      if (!names_.insert(value).second)
        return Stop(ErrorCode::kCorrupt, fmt::format("tensor {} appears twice", PrintableName(value)));
      return true;
    }
    if (state_ == State::kTensor) {
      const unsigned bit = value == "dtype" ? 1 : value == "shape" ? 2 : value == "data_offsets" ? 4 : 0;
      if (bit == 0)
        return Stop(ErrorCode::kCorrupt,
                    fmt::format("tensor {}: the unknown field {}", PrintableName(tensor_.name), PrintableName(value)));
      if ((seen_ & bit) != 0)
        return Stop(ErrorCode::kCorrupt,
                    fmt::format("tensor {}: {} appears twice", PrintableName(tensor_.name), value));
      seen_ |= bit;
    }
    return true;
  }

  bool end_object() override {
    switch (state_) {
      case State::kTensor:
        state_ = State::kRoot;
        return FinishTensor();
      case State::kMetadata:
        state_ = State::kRoot;
        return true;
      default:
        state_ = State::kAfter;
        done = true;
        return true;
    }
  }

  bool start_array(size_t) override {
    if (state_ == State::kTensor && key_ == "shape") {
      state_ = State::kShape;
      return true;
    }
    if (state_ == State::kTensor && key_ == "data_offsets") {
      state_ = State::kOffsets;
      return true;
    }
    return Unexpected("an array");
  }
  bool end_array() override {
    state_ = State::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Stop(ErrorCode::kCorrupt, fmt::format("the header is not valid JSON (at its byte {})", position));
  }

 private:
  enum class State { kBefore, kRoot, kTensor, kShape, kOffsets, kMetadata, kAfter };

  bool Stop(ErrorCode code, std::string message) {
    if (!error) error = Error{code, std::move(message)};
    return false;
  }
  bool Unexpected(std::string_view what) {
    return Stop(ErrorCode::kCorrupt, fmt::format("{}: {} is not expected there", Where(), what));
  }
  std::string Where() const {
    switch (state_) {
      case State::kBefore:
      case State::kAfter:
        return "the header";
      case State::kRoot:
        return fmt::format("the header, key {}", PrintableName(key_));
      case State::kMetadata:
        return "__metadata__";
      default:
        return fmt::format("tensor {}, {}", PrintableName(tensor_.name), PrintableName(key_));
    }
  }

  bool FinishTensor() {
    const std::string name = PrintableName(tensor_.name);
    if (seen_ != 7)
      return Stop(ErrorCode::kCorrupt, fmt::format("tensor {}: dtype, shape or data_offsets is missing", name));
    if (offsets_seen_ != 2 || begin_ > end_ || end_ > static_cast<uint64_t>(INT64_MAX)) {
      return Stop(ErrorCode::kCorrupt, fmt::format("tensor {}: data_offsets are not a range", name));
    }
    int64_t elements = 1;
    bool empty = false;
    for (int64_t extent : tensor_.shape) {
      // Zeros are set aside: they must not hide an overflow of the others.
      if (extent == 0) {
        empty = true;
      } else if (__builtin_mul_overflow(elements, extent, &elements)) {
        return Stop(ErrorCode::kCorrupt, fmt::format("tensor {}: its shape overflows", name));
      }
    }
    const auto bytes = RowBytes(tensor_.dtype, empty ? 0 : elements);
    if (!bytes || static_cast<uint64_t>(*bytes) != end_ - begin_) {
      return Stop(ErrorCode::kCorrupt,
                  fmt::format("tensor {}: data_offsets span {} bytes, its shape needs {}", name, end_ - begin_,
                              bytes ? fmt::format("{}", *bytes) : "more than can be counted"));
    }
    tensor_.bytes = *bytes;
    tensor_.offset = begin_;
    file.tensors.push_back(std::move(tensor_));
    return true;
  }

  State state_ = State::kBefore;
  std::string key_;
  SafetensorsEntry tensor_;
  unsigned seen_ = 0;  // dtype 1, shape 2, data_offsets 4
  int offsets_seen_ = 0;
  uint64_t begin_ = 0, end_ = 0;
  std::unordered_set<std::string> names_;
};

}  // namespace

Result<SafetensorsFile> SafetensorsFile::Parse(std::span<const std::byte> bytes) {
  ByteCursor cursor(bytes);
  uint64_t header_bytes = 0;
  std::span<const std::byte> header;
  if (!cursor.Read(header_bytes))
    return Fail(ErrorCode::kCorrupt, "too short for a safetensors file ({} bytes)", bytes.size());
  if (header_bytes > kMaxHeaderBytes) {
    return Fail(ErrorCode::kCorrupt, "the header claims {} bytes; {} is the limit (is this a safetensors file?)",
                header_bytes, kMaxHeaderBytes);
  }
  if (!cursor.Take(header_bytes, header)) {
    return Fail(ErrorCode::kCorrupt, "the header claims {} bytes, {} are there", header_bytes, cursor.remaining());
  }
  const auto* text = reinterpret_cast<const char*>(header.data());
  if (header.empty() || text[0] != '{') return Fail(ErrorCode::kCorrupt, "the header does not begin with '{{'");
  HeaderReader reader;
  const bool good = nlohmann::json::sax_parse(text, text + header.size(), &reader);
  if (reader.error) return std::unexpected(std::move(*reader.error));
  if (!good || !reader.done) return Fail(ErrorCode::kCorrupt, "the header is not valid JSON");

  std::vector<SafetensorsEntry*> by_offset;
  by_offset.reserve(reader.file.tensors.size());
  for (SafetensorsEntry& tensor : reader.file.tensors) by_offset.push_back(&tensor);
  // Empty tensors sort before the one that begins where they stand.
  std::sort(by_offset.begin(), by_offset.end(), [](const SafetensorsEntry* a, const SafetensorsEntry* b) {
    return std::pair(a->offset, a->bytes) < std::pair(b->offset, b->bytes);
  });
  const uint64_t data_begin = cursor.position();
  uint64_t expected = 0;
  for (SafetensorsEntry* tensor : by_offset) {
    if (tensor->offset != expected) {
      return Fail(ErrorCode::kCorrupt, "tensor {} begins at {}, {} the end of the one before it ({})",
                  PrintableName(tensor->name), tensor->offset,
                  tensor->offset < expected ? "inside, before" : "after a gap behind", expected);
    }
    expected += static_cast<uint64_t>(tensor->bytes);
    if (expected > cursor.remaining()) {
      return Fail(ErrorCode::kCorrupt, "tensor {} ends at {}, past the {} bytes of data", PrintableName(tensor->name),
                  expected, cursor.remaining());
    }
    tensor->offset += data_begin;
  }
  if (expected != cursor.remaining()) {
    return Fail(ErrorCode::kCorrupt, "{} bytes of data, but the tensors end at {}", cursor.remaining(), expected);
  }
  return std::move(reader.file);
}

}  // namespace fathom
