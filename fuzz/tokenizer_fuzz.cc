// Any bytes as text, through every kind of pre-tokenizer, over a vocabulary of bytes and a few merges: what is encoded
// decodes to the same bytes, user text never becomes a control token, and streaming says what Decode() says. The first
// byte chooses the pre-tokenizer.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"
#include "text/tokenizer.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace {

using namespace fathom;

const char* const kPre[] = {"gpt-2", "llama-bpe", "qwen35", "smollm", "deepseek-llm", "deepseek-coder", "deepseek-v3",
                            "kimi-k2", "gpt-4o", "tekken", "falcon", "default"};

std::unique_ptr<Tokenizer> Make(const char* pre) {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(BytesToByteLevel(std::string(1, static_cast<char>(byte))));
  std::vector<std::string> merges;
  const auto merge = [&](const std::string& left, const std::string& right) {
    merges.push_back(left + " " + right);
    tokens.push_back(left + right);
  };
  merge("Ġ", "t"), merge("h", "e"), merge("Ġt", "he"), merge("a", "a"), merge("aa", "aa"), merge("Ċ", "Ċ");
  merge("Ġ", "Ġ"), merge("ĠĠ", "ĠĠ"), merge("ä", "¸"), merge("ä¸", "Ń"), merge("1", "2"), merge("<", "|");
  std::vector<int32_t> types(tokens.size(), 1);
  for (const char* mark : {"<|im_start|>", "<|im_end|>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"}) {
    tokens.push_back(mark);
    types.push_back(3);
  }
  TokenizerSpec spec;
  spec.ggml_model = "gpt2";
  spec.ggml_pre = pre;
  spec.tokens = tokens;
  spec.token_types = types;
  spec.merges = merges;
  auto tokenizer = Tokenizer::Create(spec);
  if (!tokenizer) std::abort();
  return std::move(*tokenizer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const tokenizers = [] {
    auto* all = new std::vector<std::unique_ptr<Tokenizer>>;
    for (const char* pre : kPre) all->push_back(Make(pre));
    return all;
  }();
  if (size == 0) return 0;
  const Tokenizer& tokenizer = *(*tokenizers)[data[0] % tokenizers->size()];
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);

  const std::vector<TokenId> ids = tokenizer.Encode(text, TextTrust::kUser);
  std::string bytes, streamed;
  StreamingDetokenizer stream(tokenizer);
  for (TokenId id : ids) {
    if (tokenizer.IsControl(id)) std::abort();
    bytes += tokenizer.TokenBytes(id);
    const std::string piece = stream.Push(id);
    if (!IsValidUtf8(piece)) std::abort();
    streamed += piece;
  }
  streamed += stream.Flush();
  if (bytes != text || streamed != tokenizer.Decode(ids)) std::abort();

  bytes.clear();
  for (TokenId id : tokenizer.Encode(text, TextTrust::kTrusted)) bytes += tokenizer.TokenBytes(id);
  if (bytes != text) std::abort();

  // The output parsers, fed in two pieces, lose nothing and agree with one piece.
  const size_t half = text.size() / 2;
  ReasoningParser whole(false), pieces(false);
  std::string reasoning, content;
  for (const auto& piece : {whole.Push(text), whole.Flush()}) reasoning += piece.reasoning, content += piece.content;
  std::string reasoning2, content2;
  for (const auto& piece : {pieces.Push(text.substr(0, half)), pieces.Push(text.substr(half)), pieces.Flush()}) {
    reasoning2 += piece.reasoning, content2 += piece.content;
  }
  if (reasoning != reasoning2 || content != content2) std::abort();
  return 0;
}
