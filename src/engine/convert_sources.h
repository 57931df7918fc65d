// Where the rows of a GGUF's tensors come from: the tensors of a Hugging Face directory, stacked, split, transposed or
// reordered as llama.cpp's converter does it (conversion/base.py, deepseek.py, llama.py, 2026-10), or those of a GGUF
// as they are.
//
// Immutable and thread-safe; points into the ModelFile, which must outlive it. Errors name the tensor: kCorrupt when
// one is missing or has another shape than the configuration says, kUnsupported for its type.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "engine/gguf_layout.h"
#include "format/model_file.h"
#include "tensor/view.h"

namespace fathom {

/// The rows of one tensor to be written.
class RowSource {
 public:
  /// Rows of the parts, one part after the other.
  explicit RowSource(std::vector<WeightView> parts) : parts_(std::move(parts)) {}
  /// Row r is row map(r) of `part`.
  RowSource(WeightView part, std::function<int64_t(int64_t)> map) : parts_({part}), map_(std::move(map)) {}
  /// attn_k_b: head h, row c is column c of rows [h * per_head, h * per_head + nope) of `part` (kv_b).
  static RowSource Transposed(WeightView part, int64_t per_head, int64_t nope);
  /// Computed values, one row of f32.
  explicit RowSource(std::vector<float> values) : values_(std::move(values)) {}

  DType dtype() const { return parts_.empty() ? DType::kF32 : parts_.front().dtype; }
  /// Rows that are best read together; Read takes multiples.
  int64_t granule() const { return nope_ > 0 ? parts_.front().cols : 1; }
  /// Rows [row, row + count) as `type`, `cols` elements each, without gaps. Rows that are of that type already are
  /// copied byte for byte. kCorrupt for values that are not finite.
  Status Read(DType type, int64_t cols, int64_t row, int64_t count, std::byte* out) const;

 private:
  std::pair<const WeightView*, int64_t> At(int64_t row) const;
  Status ReadTransposed(DType type, int64_t cols, int64_t row, int64_t count, std::byte* out) const;

  std::vector<WeightView> parts_;
  std::function<int64_t(int64_t)> map_;
  std::vector<float> values_;
  int64_t per_head_ = 0, nope_ = 0;
};

struct ConvertSource {
  GgufTensorShape shape;
  RowSource rows;
};

struct HfSources {
  std::vector<ConvertSource> tensors;  // in the order of ListGgufTensors
  bool mtp = false;                    // the MTP layers are among them
  std::vector<std::string> notes;      // what a person should know, whole sentences
};

/// Everything that a GGUF in the mainline layout needs. mtp: take the MTP layers in where the files have them.
Result<HfSources> SourcesFromHuggingFace(const ModelFile& file, bool mtp);

/// The tensors of a GGUF, as they are; those of MTP layers only with mtp.
Result<std::vector<ConvertSource>> SourcesFromGguf(const ModelFile& file, bool mtp);

}  // namespace fathom
