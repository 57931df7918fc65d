// An opened model: its configuration, its tensors in place (memory-mapped), and what its tokenizer is made from.
//
// Open() dispatches on what the path is: a GGUF file (or any part of a split one) or a Hugging Face directory. Nothing
// is read but headers and metadata; tensor bytes stay in the mapping, which lives as long as the ModelFile.
// Thread-safe for reading. Errors name the file and the field; a hostile file can cause an error, never a crash or a
// large allocation.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/model_config.h"
#include "tensor/dtype.h"

namespace fathom {

class Env;  // io/env.h
enum class MapAdvice;  // io/env.h

enum class ModelFormat { kGguf, kHuggingFace };

struct TensorInfo {
  std::string name;            // as the file spells it
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // outermost first (GGUF's ne reversed): [rows, cols], experts [n, rows, cols]
  const std::byte* data = nullptr;
  int64_t bytes = 0;
  int32_t file = 0;     // index into files()
  int64_t offset = 0;   // of data in that file, bytes
};

/// Everything a tokenizer can be built from, without meaning attached; text/ reads it.
struct TokenizerSource {
  // Hugging Face: texts of the files, empty when absent.
  std::string tokenizer_json;
  std::string tokenizer_config_json;
  std::string generation_config_json;
  std::string config_json;
  // GGUF: tokenizer.ggml.* metadata.
  std::string ggml_model;  // "gpt2" (byte-level BPE), "llama" (SentencePiece: unsupported), …
  std::string ggml_pre;    // "deepseek-v3", "llama-bpe", "qwen2", "smollm", …
  std::vector<std::string> tokens;
  std::vector<int32_t> token_types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;   // "left right"
  int32_t bos_id = -1, eos_id = -1, pad_id = -1, unk_id = -1, eot_id = -1;
  std::vector<int32_t> eog_ids;      // further end-of-generation tokens the file names
  int32_t add_bos = -1, add_eos = -1;  // -1: the file does not say
  std::string chat_template;           // Jinja source, only used to recognise the family
};

class ModelFile {
 public:
  /// path: a .gguf file or a directory with config.json.
  static Result<std::unique_ptr<ModelFile>> Open(const std::string& path);
  /// The same through another Env (tests, fault injection); it must outlive the ModelFile.
  static Result<std::unique_ptr<ModelFile>> Open(const std::string& path, Env& env);
  virtual ~ModelFile() = default;

  virtual ModelFormat format() const = 0;
  virtual const ModelConfig& config() const = 0;
  virtual const TokenizerSource& tokenizer_source() const = 0;
  virtual std::span<const TensorInfo> tensors() const = 0;
  /// nullptr when there is no such tensor.
  virtual const TensorInfo* Find(std::string_view name) const = 0;
  /// Paths of the files that hold tensors, in order.
  virtual std::span<const std::string> files() const = 0;
  /// Printable metadata, for `inspect`: key and shortened value, in file order.
  virtual std::vector<std::pair<std::string, std::string>> Metadata() const = 0;

  /// Copies bytes [offset, offset + out.size()) of a tensor, which lie within it (REQUIRED). Errors: those of reading, where
  /// the bytes are not in memory.
  virtual Status Read(const TensorInfo& tensor, int64_t offset, std::span<std::byte> out) const;
  /// What the kernel should do about a tensor's pages (read ahead, populate, …). Only a hint: nothing is reported.
  virtual void Advise(const TensorInfo& tensor, MapAdvice advice) const { (void)tensor, (void)advice; }
  /// kCorrupt when a file shrank since it was opened: its missing pages would end the program when touched.
  virtual Status CheckUnchanged() const { return {}; }

  int64_t tensor_bytes() const {
    int64_t sum = 0;
    for (const auto& tensor : tensors()) sum += tensor.bytes;
    return sum;
  }
};

/// Only the configuration and tokenizer source, when the weights may be absent (a vocabulary-only GGUF, a directory
/// without safetensors, or a lone tokenizer.json).
struct TokenizerFile {
  TokenizerSource source;
  std::string path;
};
Result<TokenizerFile> OpenTokenizer(const std::string& path);
Result<TokenizerFile> OpenTokenizer(const std::string& path, Env& env);

}  // namespace fathom
