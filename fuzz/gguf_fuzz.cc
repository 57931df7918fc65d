// GGUF bytes from anywhere: the container, the configuration and the tokenizer source made from it. What parses is
// touched in full, so that a wrong length shows under the address sanitizer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "format/gguf.h"
#include "format/gguf_config.h"
#include "format/printable.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  auto file = GgufFile::Parse(bytes);
  if (!file) {
    if (file.error().message.empty()) std::abort();
    return 0;
  }
  size_t sum = 0;
  for (const GgufEntry& entry : file->entries()) {
    sum += DescribeGgufValue(entry.value).size() + PrintableName(entry.key).size();
    (void)file->Int(entry.key);
    (void)file->Float(entry.key);
    (void)file->Strings(entry.key);
    (void)file->Ints(entry.key);
  }
  GgufTensorFacts facts;
  for (const GgufTensor& tensor : file->tensors()) {
    for (std::byte b : bytes.subspan(tensor.offset, static_cast<size_t>(tensor.bytes)))
      sum += std::to_integer<size_t>(b);
    if (tensor.name == "token_embd.weight") facts.embedding_rows = tensor.shape.front();
    if (tensor.name == "output.weight") facts.has_output = true;
  }
  if (auto config = ConfigFromGguf(*file, facts); config) {
    // What was accepted must be safe to compute with.
    const ParameterCount count = CountParameters(*config);
    if (count.total <= 0 || count.active <= 0 || config->kv_values_per_token_layer() <= 0) std::abort();
  }
  (void)TokenizerFromGguf(*file);
  return sum == 1;  // 1 keeps an input out of the corpus; it also keeps `sum` alive
}
