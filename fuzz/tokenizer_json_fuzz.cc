// Any bytes as tokenizer.json (and, behind a 0xFF byte, as its companion files): an error or a working tokenizer, never
// a crash, a hang or a large allocation.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  auto part = [&, at = size_t{0}]() mutable {
    const size_t end = at > input.size() ? at : std::min(input.find('\xff', at), input.size());
    const std::string_view text = at > input.size() ? std::string_view() : input.substr(at, end - at);
    at = end + 1;
    return text;
  };
  TokenizerSpec spec;
  spec.tokenizer_json = part();
  spec.tokenizer_config_json = part();
  spec.generation_config_json = part();
  const auto tokenizer = Tokenizer::Create(spec);
  if (!tokenizer) {
    if (tokenizer.error().message.empty()) std::abort();
    return 0;
  }
  for (std::string_view text : {"Hello, world! 12345\n\n  don't <|a|> <｜User｜>", "a\xff\xc3 \xe4\xb8\xad\xe6\x96\x87"}) {
    for (TextTrust trust : {TextTrust::kUser, TextTrust::kTrusted}) {
      StreamingDetokenizer stream(**tokenizer);
      for (TokenId id : (*tokenizer)->Encode(text, trust)) {
        if (id < 0 || id >= (*tokenizer)->vocab_size()) std::abort();
        if (trust == TextTrust::kUser && (*tokenizer)->IsControl(id)) std::abort();
        stream.Push(id);
      }
      stream.Flush();
    }
  }
  (*tokenizer)->IsEndOfGeneration((*tokenizer)->eos_id());
  return 0;
}
