#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "text/regex.h"
#include "text/regex_program.h"
#include "text/unicode.h"

namespace fathom {
namespace {

constexpr uint32_t kMatchLimit = 2'000'000, kDepthLimit = 200'000, kHeapLimitKib = 64 * 1024;

struct CodeFree { void operator()(pcre2_code* p) const { pcre2_code_free(p); } };
struct DataFree { void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); } };
struct ContextFree { void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); } };
struct CompileContextFree { void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); } };

// PCRE2's \s has U+180E, which lost that property in Unicode 6.3; its \w lacks marks; its \h is horizontal space where
// Ruby's is a hexadecimal digit. These are spelled out. (\S and \W inside a class, and \b, keep PCRE2's meaning.)
std::string Translate(std::string_view pattern) {
  static constexpr std::string_view kSpace =
      "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
  static constexpr std::string_view kWord =
      "\\p{L}\\p{M}\\p{Nl}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"
      "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
  std::string out;
  bool in_class = false;
  const auto set = [&](std::string_view members, bool negative = false) {
    if (in_class) out += members;
    else out.append(negative ? "[^" : "[").append(members).append("]");
  };
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char kind = pattern[++i];
      if (kind == 's' || (kind == 'S' && !in_class)) set(kSpace, kind == 'S');
      else if (kind == 'w' || (kind == 'W' && !in_class)) set(kWord, kind == 'W');
      else if (kind == 'h') set("0-9a-fA-F");
      else out += {c, kind};
      continue;
    }
    if (in_class && c == '[' && i + 1 < pattern.size() && pattern[i + 1] == ':') {  // [:name:] has a ']' of its own
      const size_t end = pattern.find(":]", i);
      if (end != std::string_view::npos) {
        out += pattern.substr(i, end + 2 - i);
        i = end + 1;
        continue;
      }
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

class RegexPcre2 final : public SplitRegex {
 public:
  static Result<std::unique_ptr<const SplitRegex>> Build(std::string_view pattern) {
    auto regex = std::make_unique<RegexPcre2>();
    const std::unique_ptr<pcre2_compile_context, CompileContextFree> compile(pcre2_compile_context_create(nullptr));
    regex->context_.reset(pcre2_match_context_create(nullptr));
    if (!compile || !regex->context_) return Fail(ErrorCode::kResource, "no memory for a pattern");
    pcre2_set_newline(compile.get(), PCRE2_NEWLINE_LF);
    pcre2_set_match_limit(regex->context_.get(), kMatchLimit);
    pcre2_set_depth_limit(regex->context_.get(), kDepthLimit);
    pcre2_set_heap_limit(regex->context_.get(), kHeapLimitKib);
    const std::string translated = Translate(pattern);
    int code = 0;
    PCRE2_SIZE offset = 0;
    regex->code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &offset,
                                     compile.get()));
    if (!regex->code_) {
      PCRE2_UCHAR message[256] = {};
      pcre2_get_error_message(code, message, sizeof(message));
      return Fail(ErrorCode::kCorrupt, "invalid regular expression: {}", reinterpret_cast<const char*>(message));
    }
    pcre2_jit_compile(regex->code_.get(), PCRE2_JIT_COMPLETE);  // without JIT the interpreter runs, only slower
    return regex;
  }

  void FindAll(std::string_view text, FunctionRef<void(size_t, size_t)> visit) const override {
    if (IsValidUtf8(text)) return Run(text, visit);
    std::string clean;
    std::vector<size_t> original;  // where each byte of `clean` comes from
    for (size_t i = 0; i < text.size();) {
      const Utf8Char c = DecodeUtf8(text, i);
      AppendUtf8(c.code_point, clean);
      original.resize(clean.size(), i);
      i += c.length;
    }
    original.push_back(text.size());
    Run(clean, [&](size_t begin, size_t end) { visit(original[begin], original[end]); });
  }
  RegexEngine engine() const override { return RegexEngine::kPcre2; }

 private:
  void Run(std::string_view text, FunctionRef<void(size_t, size_t)> visit) const {
    const std::unique_ptr<pcre2_match_data, DataFree> data(pcre2_match_data_create(1, nullptr));
    if (!data) return;
    const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    size_t last_end = static_cast<size_t>(-1);
    for (size_t pos = 0; pos <= text.size();) {
      const int found = pcre2_match(code_.get(), subject, text.size(), pos, PCRE2_NO_UTF_CHECK, data.get(),
                                    context_.get());
      if (found < 0) return;  // no match, or a limit was reached: no matches in the rest
      const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data.get());
      const size_t begin = offsets[0], end = offsets[1];
      if (begin > end || begin < pos) return;  // \K inside a look-ahead
      if (!(begin == end && begin == last_end)) visit(begin, end);
      last_end = end;
      pos = end;
      if (begin == end) pos += pos < text.size() ? DecodeUtf8(text, pos).length : 1;
    }
  }

  std::unique_ptr<pcre2_code, CodeFree> code_;
  std::unique_ptr<pcre2_match_context, ContextFree> context_;
};

}  // namespace

Result<std::unique_ptr<const SplitRegex>> SplitRegex::Compile(std::string_view pattern, RegexEngine engine) {
  if (pattern.size() > 64 * 1024) return Fail(ErrorCode::kUnsupported, "a pattern of {} bytes", pattern.size());
  if (engine == RegexEngine::kPcre2) return RegexPcre2::Build(pattern);
  auto tree = ParseRegex(pattern);
  Error error;
  if (tree) {
    auto program = RegexProgram::Build(*tree);
    if (program) return program;
    error = program.error();
  } else {
    error = tree.error();
  }
  if (engine == RegexEngine::kProgram || error.code == ErrorCode::kCorrupt) {
    return Fail(error.code, "invalid regular expression: {}", error.message);
  }
  return RegexPcre2::Build(pattern);
}

std::string EscapeRegex(std::string_view literal) {
  std::string out;
  for (char c : literal) {
    if (std::string_view("\\^$.|?*+()[]{}-&").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace fathom
