// `fathom convert`: a Hugging Face directory or a GGUF becomes a GGUF, in the types asked for.
//
// The result is what llama.cpp's converter and quantiser would write (names, shapes, metadata, types of each tensor:
// gguf_layout.h, gguf_metadata.h, quant_recipe.h), MTP layers included. Tensors are streamed: memory is two batches of
// some 32 MB. The file appears whole under its name or not at all; errors and cancellation remove what was written.
// The same source and type give the same bytes, whatever the number of threads.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "format/model_config.h"
#include "tensor/dtype.h"

namespace fathom {

class Env;

struct ConvertOptions {
  std::string source;                        // a Hugging Face directory or a GGUF
  std::string output;                        // path of the GGUF
  std::string type = "bf16";                 // name in QuantRecipes()
  bool keep_types = false;                   // of a GGUF: every tensor as it is, whatever `type` says
  bool pack = false;                         // experts' matrices side by side (docs/formats/packed-experts.md)
  std::string name;                          // general.name; empty: the source's own
  std::string pre_tokenizer;                 // tokenizer.ggml.pre; empty: found by trying (text/gguf_vocabulary.h)
  bool mtp = true;                           // keep multi-token prediction layers, where there are any
  int threads = 0;                           // 0: one per available core
  int64_t reserve_bytes = int64_t{1} << 30;  // disk space that must stay free
  bool overwrite = false;                    // replace an existing file
  /// Called now and then from the calling thread with bytes done and in all; false stops (kCancelled). May be empty.
  std::function<bool(int64_t done, int64_t total)> progress;
};

struct ConvertTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  DType from = DType::kF32, to = DType::kF32;
  bool fell_back = false;      // its rows do not fill the blocks of the type that the recipe wanted
  int64_t bytes = 0;           // in the new file
};

/// What will be, or was, written.
struct ConvertSummary {
  ModelConfig config;  // as a reader of the new file will see it
  std::string type;    // the recipe's name
  bool mtp = false;
  std::vector<ConvertTensor> tensors;
  std::vector<std::string> notes;  // what a person should know, whole sentences
  int64_t source_bytes = 0;        // of the source's tensors
  int64_t tensor_bytes = 0;
  int64_t file_bytes = 0;          // 0 from PlanConvert
  ParameterCount parameters;       // without MTP layers
};

/// Everything but the writing: reads headers only. Errors: kInvalidArgument for an unknown type, those of opening a
/// model, those of convert_sources.h, text/gguf_vocabulary.h's.
Result<ConvertSummary> PlanConvert(const ConvertOptions& options);

/// Writes the file. Errors: as above, kInvalidArgument when the output exists, kResource (disk or memory, before
/// anything is written where possible), kCorrupt for weights that are NaN or infinite, kIo, kCancelled.
Result<ConvertSummary> ConvertModel(const ConvertOptions& options);
/// The same, writing through another Env (tests).
Result<ConvertSummary> ConvertModel(const ConvertOptions& options, Env& env);

}  // namespace fathom
