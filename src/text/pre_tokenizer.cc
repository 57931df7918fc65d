#include "text/pre_tokenizer.h"

#include <algorithm>

#include "text/regex_program.h"

namespace fathom {
namespace {

// GPT-2's encoder.py.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

struct Part {
  size_t begin, end;
  bool removed;
};

// The pieces that `matches` (all of the text, matches and what lies between them, flagged) leave under a behaviour.
std::vector<Part> Arrange(const std::vector<Part>& matches, SplitBehavior behavior) {
  std::vector<Part> out;
  bool previous = false;
  switch (behavior) {
    case SplitBehavior::kRemoved: return matches;
    case SplitBehavior::kIsolated:
      for (const Part& part : matches) out.push_back({part.begin, part.end, false});
      break;
    case SplitBehavior::kContiguous:
      for (const Part& part : matches) {
        if (part.removed == previous && !out.empty()) out.back().end = part.end;
        else out.push_back({part.begin, part.end, false});
        previous = part.removed;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& part : matches) {
        if (part.removed && !previous && !out.empty()) out.back().end = part.end;
        else out.push_back({part.begin, part.end, false});
        previous = part.removed;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = matches.rbegin(); part != matches.rend(); ++part) {
        if (part->removed && !previous && !out.empty()) out.back().begin = part->begin;
        else out.push_back({part->begin, part->end, false});
        previous = part->removed;
      }
      std::reverse(out.begin(), out.end());
      break;
  }
  return out;
}

}  // namespace

Status PreTokenizer::AddSplit(std::string_view pattern, SplitBehavior behavior, bool invert) {
  FATHOM_TRY(auto regex, SplitRegex::Compile(pattern));
  steps_.push_back({std::move(regex), behavior, invert});
  return {};
}

void PreTokenizer::AddSplit(const CodePointSet& set, SplitBehavior behavior) {
  RegexNode node{.kind = RegexNode::Kind::kSet, .set = set, .children = {}};
  steps_.push_back({*RegexProgram::Build(node), behavior, false});  // one set always compiles
}

void PreTokenizer::AddWhitespace() {
  const CodePointSet word = CodePointSet::WhitespaceStep();
  CodePointSet taken = word;
  taken.Add(CodePointSet::WhiteSpace());
  RegexNode alternate{.kind = RegexNode::Kind::kAlternate, .set = {}, .children = {}};
  for (const CodePointSet& set : {word, taken.Complement()}) {
    RegexNode run{.kind = RegexNode::Kind::kRepeat, .set = {}, .children = {}, .min = 1, .max = -1};
    run.children.push_back({.kind = RegexNode::Kind::kSet, .set = set, .children = {}});
    alternate.children.push_back(std::move(run));
  }
  steps_.push_back({*RegexProgram::Build(alternate), SplitBehavior::kRemoved, true});  // this always compiles
}

Status PreTokenizer::AddByteLevel(bool add_prefix_space, bool use_regex) {
  if (add_prefix_space) steps_.push_back({nullptr, SplitBehavior::kIsolated, false});
  if (use_regex) FATHOM_CHECK_OK(AddSplit(kGpt2, SplitBehavior::kIsolated, false));
  byte_level_ = true;
  return {};
}

void PreTokenizer::Run(size_t step, std::string_view piece, FunctionRef<void(std::string_view)> word) const {
  if (piece.empty()) return;
  if (step == steps_.size()) return word(piece);
  const Step& here = steps_[step];
  if (here.regex == nullptr) {
    if (piece.starts_with(' ')) return Run(step + 1, piece, word);
    const std::string spaced = " " + std::string(piece);
    return Run(step + 1, spaced, word);
  }
  size_t done = 0;
  if (here.behavior == SplitBehavior::kIsolated) {  // nearly always
    here.regex->FindAll(piece, [&](size_t begin, size_t end) {
      if (begin > done) Run(step + 1, piece.substr(done, begin - done), word);
      if (end > begin) Run(step + 1, piece.substr(begin, end - begin), word);
      done = end;
    });
    if (done < piece.size()) Run(step + 1, piece.substr(done), word);
    return;
  }
  std::vector<Part> parts;
  here.regex->FindAll(piece, [&](size_t begin, size_t end) {
    if (begin > done) parts.push_back({done, begin, here.invert});
    parts.push_back({begin, end, !here.invert});
    done = end;
  });
  if (done < piece.size()) parts.push_back({done, piece.size(), here.invert});
  for (const Part& part : Arrange(parts, here.behavior)) {
    if (!part.removed) Run(step + 1, piece.substr(part.begin, part.end - part.begin), word);
  }
}

namespace {

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kDeepseekV3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
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

struct Known {
  std::string_view name;
  std::vector<std::string_view> patterns;
  bool digits = false;  // single digits first (or last, for DeepSeek-LLM and Coder)
  bool digits_last = false;
  bool gpt2 = false;
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

const std::vector<Known>& KnownPreTokenizers() {
  static const auto* const known = [] {
    const Known llama3{.name = "llama-bpe", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true};
    const Known qwen2{.name = "qwen2", .patterns = {kQwen2}, .nfc = true};
    const Known deepseek_v3{.name = "deepseek-v3", .patterns = {R"(\p{N}{1,3})", kKana, kDeepseekV3}};
    const Known digits_gpt2{.name = "smollm", .patterns = {}, .digits = true, .gpt2 = true};
    const auto alias = [](Known known, std::string_view name) { return known.name = name, known; };
    Known r1_qwen = alias(qwen2, "deepseek-r1-qwen");
    r1_qwen.nfc = false;  // the distills' tokenizer.json has no normaliser
    return new std::vector<Known>{
        {.name = "deepseek-llm",
         .patterns = {"[\r\n]", kDeepseekLlmLetters, kDeepseekLlmMarks, R"(\s+$)", kCjk},
         .digits_last = true},
        {.name = "deepseek-coder", .patterns = {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kCjk}, .digits_last = true},
        deepseek_v3,
        alias(deepseek_v3, "joyai-llm"),
        alias(deepseek_v3, "hunyuan-dense"),
        r1_qwen,
        llama3,
        alias(llama3, "llama3"),
        alias(llama3, "llama-v3"),
        qwen2,
        alias(qwen2, "megrez"),
        digits_gpt2,
        alias(digits_gpt2, "starcoder"),
        alias(digits_gpt2, "refact"),
        alias(digits_gpt2, "command-r"),
        {.name = "gpt-2", .patterns = {}, .gpt2 = true},
        {.name = "phi-2", .patterns = {}, .gpt2 = true},
        {.name = "kimi-k2", .patterns = {kKimiK2}, .ignore_merges = true},  // tiktoken takes whole words first
        {.name = "default",
         .patterns = {R"([\p{P}\$\+<=>\^~\|]+)",
                      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))", R"(\p{N}+)",
                      "[0-9][0-9][0-9]"}},
    };
  }();
  return *known;
}

}  // namespace

Result<NamedPreTokenizer> PreTokenizerByName(std::string_view name) {
  if (name.empty()) name = "default";
  const auto& all = KnownPreTokenizers();
  const auto known = std::find_if(all.begin(), all.end(), [&](const Known& k) { return k.name == name; });
  if (known == all.end()) {
    std::string names;
    for (const Known& k : all) names += (names.empty() ? "" : ", ") + std::string(k.name);
    return Fail(ErrorCode::kUnsupported, "tokenizer.ggml.pre: unknown pre-tokenizer \"{}\" (known: {})",
                name.substr(0, 64), names);
  }
  NamedPreTokenizer out;
  if (known->digits) out.chain.AddSplit(CodePointSet::NumericStep(), SplitBehavior::kIsolated);
  for (std::string_view pattern : known->patterns) {
    FATHOM_CHECK_OK(out.chain.AddSplit(pattern, SplitBehavior::kIsolated, false));
  }
  if (known->digits_last) out.chain.AddSplit(CodePointSet::NumericStep(), SplitBehavior::kIsolated);
  FATHOM_CHECK_OK(out.chain.AddByteLevel(false, known->gpt2));
  if (known->nfc) out.normal_forms.push_back(NormalForm::kNfc);
  out.ignore_merges = known->ignore_merges;
  out.add_bos = known->add_bos;
  return out;
}

}  // namespace fathom
