// Writes one safetensors file: tensors declared up front, then their bytes streamed in order (docs/formats/safetensors.md).
//
// Order of calls: AddMetadata and Declare, WriteHeader, then every tensor's bytes in the order of declaration, Finish.
// The file appears whole at Finish or not at all (io/file_writer.h). Not thread-safe. Errors: kInvalidArgument for a
// name twice, a type that safetensors lacks or bytes that do not fit; those of io/file_writer.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "io/env.h"
#include "io/file_writer.h"
#include "tensor/dtype.h"

namespace fathom {

class SafetensorsWriter {
 public:
  static Result<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path);
  static Result<std::unique_ptr<SafetensorsWriter>> Create(const std::string& path, Env& env);

  void AddMetadata(std::string_view key, std::string_view value);  // e.g. "format": "pt"
  void Declare(std::string_view name, DType dtype, std::vector<int64_t> shape);
  Status WriteHeader();
  /// The next bytes of data, in any pieces.
  Status Append(std::span<const std::byte> bytes);
  /// All declared bytes must have come.
  Status Finish();

 private:
  struct Tensor {
    std::string name;
    DType dtype;
    std::vector<int64_t> shape;
    int64_t bytes = 0;
  };

  explicit SafetensorsWriter(std::unique_ptr<FileWriter> file) : file_(std::move(file)) {}

  std::unique_ptr<FileWriter> file_;
  std::vector<Tensor> tensors_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  bool header_written_ = false;
  int64_t data_bytes_ = 0;  // declared
  int64_t written_ = 0;
};

}  // namespace fathom
