// Writes a GGUF file (version 3): metadata, then tensors declared up front and streamed one after another, so that a
// file of any size needs no memory. docs/formats/gguf.md.
//
// Order of calls: AddMetadata and DeclareTensor in any order, WriteHeader, the data of every tensor in the order of
// declaration (WriteTensor, or pieces by Append), Finish. The file appears under its name, synced, at Finish and not
// before; an error or destruction removes what was written. Not thread-safe. Errors: kInvalidArgument for what cannot
// stand in a GGUF (a name twice, rows that are not whole blocks), kInternal for calls out of order, and those of
// io/file_writer.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <variant>
#include <vector>

#include "base/result.h"
#include "io/env.h"
#include "io/file_writer.h"
#include "tensor/dtype.h"

namespace fathom {

/// The type stored follows the alternative: u8 … f64, bool, string, and arrays of these.
using GgufMetadataValue =
    std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool, std::string, uint64_t, int64_t,
                 double, std::vector<std::string>, std::vector<int32_t>, std::vector<uint32_t>, std::vector<int64_t>,
                 std::vector<float>, std::vector<bool>>;

class GgufWriter {
 public:
  static Result<std::unique_ptr<GgufWriter>> Create(const std::string& path);
  static Result<std::unique_ptr<GgufWriter>> Create(const std::string& path, Env& env);

  void AddMetadata(std::string_view key, GgufMetadataValue value);
  void AddMetadata(std::string_view key, const char* text) { AddMetadata(key, GgufMetadataValue(std::string(text))); }
  /// shape: outermost first, as TensorInfo has it ([rows, cols]; [experts, rows, cols]); 1 to 4 extents.
  void DeclareTensor(std::string_view name, DType dtype, std::vector<int64_t> shape);

  /// Where tensors begin, in bytes: a power of two in [32, 65536]; 32 unless set. Before WriteHeader.
  void SetAlignment(int64_t alignment) { alignment_ = alignment; }

  /// Checks all declarations (mistakes in the calls above are reported here) and writes everything before the data.
  Status WriteHeader();
  /// The whole of tensor `index` (by order of declaration), which must be the next one; bytes must be
  /// TensorBytes(index).
  Status WriteTensor(size_t index, std::span<const std::byte> bytes);
  /// The next bytes of data, in any pieces; tensor boundaries are found and padded by the writer.
  Status Append(std::span<const std::byte> bytes);
  /// All tensors must be complete.
  Status Finish();

  size_t tensor_count() const { return tensors_.size(); }
  int64_t TensorBytes(size_t index) const { return tensors_[index].bytes; }  // valid after WriteHeader
  /// Size of the finished file; valid after WriteHeader.
  int64_t file_bytes() const { return file_bytes_; }

 private:
  struct Entry {
    std::string key;
    GgufMetadataValue value;
  };
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    int64_t bytes = 0;
  };

  explicit GgufWriter(std::unique_ptr<FileWriter> file) : file_(std::move(file)) {}
  Status Check();

  static constexpr int64_t kAlignment = 32;  // that of a file which does not say
  int64_t alignment_ = kAlignment;
  std::unique_ptr<FileWriter> file_;
  std::vector<Entry> entries_;
  std::vector<Tensor> tensors_;
  bool header_written_ = false;
  size_t current_ = 0;   // tensor being written
  int64_t written_ = 0;  // of its bytes
  int64_t file_bytes_ = 0;
};

}  // namespace fathom
