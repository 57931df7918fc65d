// What the names in a GGUF file's tokenizer.ggml.pre stand for. The patterns are those of the models' tokenizer.json
// files (llama.cpp, which made up the names, lists them in src/llama-vocab.cpp).
#include <algorithm>

#include "text/pre_tokenizer.h"

namespace fathom {
namespace {

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
// OpenAI's o200k, and Mistral's without contractions.
constexpr std::string_view kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
// GPT-2's without its last alternative, which makes no difference: what it would match is left between matches.
constexpr std::string_view kGpt2NoTail = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))";
constexpr std::string_view kKana = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
// Chinese and (up to U+D7FF) Hangul, as DeepSeek-LLM and Coder write it.
constexpr std::string_view kCjk = R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
// DeepSeek-LLM lists the letters of the cased scripts (Latin, Greek, Cyrillic, Armenian, Georgian, Cherokee, …).
constexpr std::string_view kDeepseekLlmLetters =
    R"(\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}\x{295}-\x{2AF})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5})"
    R"(\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD})"
    R"(\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15})"
    R"(\x{1F18}-\x{1F1D}\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}\x{1F5F}-\x{1F7D})"
    R"(\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB})"
    R"(\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D})"
    R"(\x{2124}\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}\x{2145}-\x{2149}\x{214E})"
    R"(\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D})"
    R"(\x{A680}-\x{A69B}\x{A722}-\x{A76F}\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06})"
    R"(\x{FB13}-\x{FB17}\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}\x{104D8}-\x{104FB})"
    R"(\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}\x{1E900}-\x{1E943}]+)";
constexpr std::string_view kDeepseekLlmMarks =
    R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)";
// Moonshot's tokenization_kimi.py (tiktoken).
constexpr std::string_view kKimiK2 =
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+)"
    R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

enum Trait : unsigned {
  kDigitsFirst = 1,   // single digits are split off first,
  kDigitsLast = 2,    // or last
  kGpt2Words = 4,     // ByteLevel splits by GPT-2's pattern
  kNfc = 8,           // the models' files normalise
  kWholeWords = 16,   // ignore_merges (tiktoken's way: a word that is a token is not merged)
  kBos = 32,          // files that do not say still mean a BOS
};

struct Known {
  std::vector<std::string_view> names;
  std::vector<std::string_view> patterns;
  unsigned traits = 0;
};

const std::vector<Known>& KnownPreTokenizers() {
  static const auto* const known = new std::vector<Known>{
      {{"deepseek-llm"}, {"[\r\n]", kDeepseekLlmLetters, kDeepseekLlmMarks, R"(\s+$)", kCjk}, kDigitsLast},
      {{"deepseek-coder"}, {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kCjk}, kDigitsLast},
      {{"deepseek-v3", "joyai-llm", "hunyuan-dense"}, {R"(\p{N}{1,3})", kKana, kDeepseekV3}, 0},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2"}, {kLlama3}, kWholeWords | kBos},
      {{"glm4", "glm5"}, {kLlama3}, kWholeWords},
      {{"chatglm-bpe", "dbrx", "smaug-bpe"}, {kLlama3}, 0},
      {{"qwen2", "deepseek-r1-qwen", "megrez"}, {kQwen2}, kNfc},
      {{"stablelm2", "hunyuan", "grok-2"}, {kQwen2}, 0},
      {{"qwen35"}, {kQwen35}, 0},
      {{"kimi-k2"}, {kKimiK2}, kWholeWords},
      {{"gpt-4o", "llama4"}, {kGpt4o}, 0},
      {{"tekken"}, {kTekken}, kWholeWords | kBos},
      {{"smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"}, {}, kDigitsFirst | kGpt2Words},
      {{"command-r"}, {}, kDigitsFirst | kGpt2Words | kNfc},
      {{"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "exaone4"}, {}, kGpt2Words},
      {{"falcon"}, {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2NoTail, "[0-9][0-9][0-9]"}, 0},
      {{"default"}, {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2NoTail, R"(\p{N}+)", "[0-9][0-9][0-9]"}, 0},
  };
  return *known;
}

}  // namespace

std::vector<std::string_view> PreTokenizerNames() {
  std::vector<std::string_view> names;
  for (const Known& known : KnownPreTokenizers()) names.push_back(known.names.front());
  return names;
}

Result<NamedPreTokenizer> PreTokenizerByName(std::string_view name) {
  if (name.empty()) name = "default";
  const Known* found = nullptr;
  for (const Known& known : KnownPreTokenizers()) {
    if (std::find(known.names.begin(), known.names.end(), name) != known.names.end()) found = &known;
  }
  if (found == nullptr) {
    std::string names;
    for (const Known& known : KnownPreTokenizers()) {
      for (std::string_view one : known.names) names += (names.empty() ? "" : ", ") + std::string(one);
    }
    return Fail(ErrorCode::kUnsupported, "tokenizer.ggml.pre: unknown pre-tokenizer \"{}\" (known: {})",
                name.substr(0, 64), names);
  }
  NamedPreTokenizer out;
  const auto digits = [&] { out.chain.AddSplit(CodePointSet::NumericStep(), SplitBehavior::kIsolated); };
  if (found->traits & kDigitsFirst) digits();
  for (std::string_view pattern : found->patterns) {
    FATHOM_CHECK_OK(out.chain.AddSplit(pattern, SplitBehavior::kIsolated, false));
  }
  if (found->traits & kDigitsLast) digits();
  FATHOM_CHECK_OK(out.chain.AddByteLevel(false, (found->traits & kGpt2Words) != 0));
  if (found->traits & kNfc) out.normal_forms.push_back(NormalForm::kNfc);
  out.ignore_merges = (found->traits & kWholeWords) != 0;
  out.add_bos = (found->traits & kBos) != 0;
  return out;
}

}  // namespace fathom
