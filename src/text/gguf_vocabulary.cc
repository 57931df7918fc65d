#include "text/gguf_vocabulary.h"

#include <unordered_map>

#include "text/bpe_tokenizer.h"
#include "text/tokenizer_json_internal.h"

namespace fathom {
namespace {

// Texts that tell the known pre-tokenizers apart: digits in runs, contractions, scripts with and without case, marks,
// punctuation before words, white space before and after line ends, symbols, controls, emoji.
constexpr std::string_view kProbes[] = {
    "1 12 123 1234 12345 1234567890 3.14159 0x1F 50% 1,000,000 v2.0 a1b2c3 ٣٤٥٦ ²³ ⅷⅸ",
    "I'm you've they'll WE'LL don't 'tis o'clock 'S 'RE rock'n'roll ''quoted''",
    "Hello, World!  Two spaces   three\ttab\t\ttabs \n newline\n\n\nthree\r\nCRLF \r lone  ",
    "camelCaseWords HTMLParser iPhone McDonald's ABCdefGHI ÄÖÜß éÈê ÇELİK ǅ ʰʲ",
    "(parens) [brackets] {braces} <tags> \"quotes\" #hash @at $price €5 ¥100 a+b=c x^2 y~z `code` |pipe|",
    "snake_case __init__ --flag -- ... !!! ??? ?! ;; :: // \\\\ /path/to/file.txt a/b .hidden *bold*",
    "中文字符测试 日本語のテキスト カタカナ ひらがな 한국어 텍스트 漢字abc漢字 中文123中文,。、！",
    "Привет мир ПРИВЕТ Ελληνικά ΩΜΕΓΑ հայերեն ქართული עברית العربية हिन्दी ไทย தமிழ்",
    "e\u0301 n\u0303 a\u0308 क्षि ñ Å 🙂🙂 👩‍👩‍👧 🇩🇪 ✓ → ∑∫ ©®™ °C ½ ﬁ ＡＢＣ １２３",
    "   leading\n   indented\n\tif (x) {\n\t\treturn  x;\n\t}\n",
    "word,word.word;word:word!word?word-word_word'word\"word /word \\word #word $word %word &word",
    "\n\n  \n x\n \n\t\n end   \n", "a  b   c    d     ", "\u00a0nbsp\u3000wide\u2003em", "\x01\x02 ctrl\x7f",
};

Result<std::string> NameOf(const PreTokenizer& chain, const std::vector<NormalForm>& forms, bool ignore_merges) {
  const std::vector<std::string> wanted = PreTokenizerProbe(chain);
  std::string names;
  for (const std::string_view name : PreTokenizerNames()) {
    FATHOM_TRY(const NamedPreTokenizer known, PreTokenizerByName(name));
    if (known.normal_forms == forms && known.ignore_merges == ignore_merges && PreTokenizerProbe(known.chain) == wanted)
      return std::string(name);
    names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return Fail(ErrorCode::kUnsupported,
              "tokenizer.json: no name that a GGUF knows stands for its pre_tokenizer, normalizer and ignore_merges "
              "(known: {})",
              names);
}

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

}  // namespace

std::vector<std::string> PreTokenizerProbe(const PreTokenizer& chain) {
  std::vector<std::string> words;
  for (const std::string_view probe : kProbes) {
    chain.Split(probe, [&](std::string_view word) { words.emplace_back(word); });
    words.emplace_back();  // where a probe ends
  }
  return words;
}

Result<GgufVocabulary> GgufVocabularyOf(const TokenizerSpec& spec, int32_t vocab_size, std::string_view pre) {
  FATHOM_TRY(const TokenizerJson file, ReadTokenizerJson(spec));
  FATHOM_TRY(const auto tokenizer, LoadTokenizerJson(spec));
  GgufVocabulary out;
  if (pre.empty()) {
    FATHOM_TRY(out.pre, NameOf(file.pre_tokenizer, file.normal_forms, file.ignore_merges));
  } else {
    if (const auto known = PreTokenizerByName(pre); !known)
      return Fail(ErrorCode::kInvalidArgument, "{}", known.error().message);
    out.pre = std::string(pre);
  }

  const auto size = static_cast<size_t>(vocab_size);
  out.tokens.resize(size);
  out.token_types.assign(size, 0);
  const auto put = [&](int64_t id, std::string_view text, int32_t type) -> Status {
    if (id < 0 || id >= vocab_size) {
      return Fail(ErrorCode::kInvalidArgument, "tokenizer.json: token \"{}\" has id {}, but the model has {} tokens",
                  text.substr(0, 64), id, vocab_size);
    }
    out.tokens[static_cast<size_t>(id)] = text;
    out.token_types[static_cast<size_t>(id)] = type;
    return {};
  };
  std::unordered_map<std::string_view, int64_t> ids;
  for (size_t i = 0; i < file.reader.ids.size(); ++i) {
    FATHOM_CHECK_OK(put(file.reader.ids[i], file.reader.vocab[i], kNormal));
    ids.emplace(file.reader.vocab[i], file.reader.ids[i]);
  }
  for (const AddedToken& token : file.added) {
    // A token that the model has under its name keeps the model's id.
    const auto found = ids.find(token.text);
    const int64_t id = found != ids.end() ? found->second : token.id;
    const bool control = token.token_class == TokenClass::kControl;
    FATHOM_CHECK_OK(put(id, token.text, control ? kControl : kUserDefined));
  }
  for (size_t i = 0; i < size; ++i) {
    if (out.token_types[i] != 0) continue;
    out.tokens[i] = fmt::format("[PAD{}]", i);
    out.token_types[i] = kUnused;
  }

  const TokenizerJsonReader& reader = file.reader;
  const size_t merges = reader.merge_pairs ? reader.merges.size() / 2 : reader.merges.size();
  out.merges.reserve(merges);
  for (size_t i = 0; i < merges; ++i) {
    if (!reader.merge_pairs) {
      out.merges.emplace_back(reader.merges[i]);
    } else if (reader.merges[2 * i].find(' ') == std::string_view::npos) {
      out.merges.push_back(fmt::format("{} {}", reader.merges[2 * i], reader.merges[2 * i + 1]));
    }  // over a space, which byte-level words never have: it could not apply
  }

  out.bos_id = tokenizer->bos_id();
  out.eos_id = tokenizer->eos_id();
  out.add_bos = tokenizer->add_bos();
  const auto named = [&](const std::string& text) { return text.empty() ? -1 : tokenizer->FindToken(text); };
  out.pad_id = named(file.pad_token);
  out.unk_id = named(file.unk_token);
  return out;
}

}  // namespace fathom
