// config.json from anywhere: an error, or a configuration that is safe to compute with.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "format/hf_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto config = fathom::ConfigFromHuggingFace(text, "fuzz");
  if (!config) {
    if (config.error().message.empty()) std::abort();
    return 0;
  }
  const auto count = fathom::CountParameters(*config);
  if (count.total <= 0 || count.active <= 0 || config->kv_values_per_token_layer() <= 0) std::abort();
  return 0;
}
