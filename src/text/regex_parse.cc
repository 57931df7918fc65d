#include <algorithm>

#include "text/regex_ast.h"

namespace fathom {
namespace {

constexpr int kMaxDepth = 40;
constexpr int kMaxRepeat = 100000;

class Parser {
 public:
  explicit Parser(std::string_view pattern) : p_(pattern) {}

  Result<RegexNode> Parse() {
    FATHOM_TRY(RegexNode node, Alternation(0));
    if (!Done()) return Fail(ErrorCode::kCorrupt, "unmatched ')' at offset {}", i_);
    return node;
  }

 private:
  using Kind = RegexNode::Kind;

  bool Done() const { return i_ >= p_.size(); }
  char Peek(size_t ahead = 0) const { return i_ + ahead < p_.size() ? p_[i_ + ahead] : '\0'; }
  bool Eat(std::string_view text) {
    if (p_.substr(i_).starts_with(text)) return i_ += text.size(), true;
    return false;
  }
  std::unexpected<Error> Bad(std::string_view what) const {
    return Fail(ErrorCode::kCorrupt, "{} at offset {}", what, i_);
  }
  std::unexpected<Error> Cannot(std::string_view what) const {
    return Fail(ErrorCode::kUnsupported, "{} at offset {}", what, i_);
  }

  Result<RegexNode> Alternation(int depth) {
    if (depth > kMaxDepth) return Cannot("groups nested too deeply");
    const bool outer_caseless = caseless_;
    RegexNode alternate{.kind = Kind::kAlternate, .set = {}, .children = {}};
    do {
      FATHOM_TRY(RegexNode branch, Concatenation(depth));
      alternate.children.push_back(std::move(branch));
    } while (Eat("|"));
    caseless_ = outer_caseless;
    if (alternate.children.size() == 1) return RegexNode(std::move(alternate.children[0]));
    return alternate;
  }

  Result<RegexNode> Concatenation(int depth) {
    RegexNode concat{.kind = Kind::kConcat, .set = {}, .children = {}};
    while (!Done() && Peek() != '|' && Peek() != ')') {
      FATHOM_TRY(RegexNode atom, Atom(depth));
      FATHOM_TRY(atom, Quantified(std::move(atom)));
      if (atom.kind != Kind::kEmpty) concat.children.push_back(std::move(atom));
    }
    if (concat.children.empty()) return RegexNode{};
    if (concat.children.size() == 1) return RegexNode(std::move(concat.children[0]));
    return concat;
  }

  bool Number(int& out) {
    size_t digits = 0;
    int64_t value = 0;
    while (Peek() >= '0' && Peek() <= '9' && digits++ < 9) value = value * 10 + (p_[i_++] - '0');
    out = static_cast<int>(value);
    return digits > 0;
  }

  Result<RegexNode> Quantified(RegexNode atom) {
    for (bool first = true;; first = false) {
      int min = 0, max = -1;
      bool braces = false;
      if (Eat("*")) {
      } else if (Eat("+")) {
        min = 1;
      } else if (Eat("?")) {
        max = 1;
      } else if (Peek() == '{') {
        const size_t start = i_++;
        const bool has_min = Number(min);
        if (Eat(",")) {
          const bool has_max = Number(max);
          if (!has_max) max = -1;
          if (!has_min && !has_max) return i_ = start, std::move(atom);  // a plain '{'
        } else {
          max = min;
          if (!has_min) return i_ = start, std::move(atom);
        }
        if (!Eat("}")) return i_ = start, std::move(atom);
        braces = true;
      } else {
        return atom;
      }
      if (!first) return Cannot("a quantifier on a quantifier");
      if (atom.kind != Kind::kSet && atom.kind != Kind::kConcat && atom.kind != Kind::kAlternate &&
          atom.kind != Kind::kRepeat) {
        return Cannot("a quantifier on something without width");
      }
      if (max >= 0 && min > max) return Cannot("a quantifier whose bounds are reversed");
      if (min > kMaxRepeat || max > kMaxRepeat) return Cannot("a repeat count that large");
      if (Peek() == '?') return Cannot("a lazy quantifier");
      const bool possessive = !braces && Eat("+");  // {n,m}+ is greedy twice in Ruby's syntax
      if (possessive && atom.kind != Kind::kSet) return Cannot("a possessive group");
      RegexNode repeat{.kind = Kind::kRepeat, .set = {}, .children = {}, .min = min, .max = max,
                       .possessive = possessive};
      repeat.children.push_back(std::move(atom));
      atom = std::move(repeat);
    }
  }

  RegexNode SetNode(CodePointSet set) const {
    RegexNode node{.kind = Kind::kSet, .set = std::move(set), .children = {}};
    if (caseless_) node.set.AddOtherCases();
    return node;
  }
  // ASCII letters are folded by hand: the general tables take milliseconds to build, and (?i:'s|'t|…) is everywhere.
  RegexNode Char(uint32_t c) const {
    CodePointSet set;
    set.Add(c, c);
    if (caseless_ && c < 0x80) {
      const uint32_t lower = c | 0x20;
      if (lower >= 'a' && lower <= 'z') {
        set.Add(lower, lower);
        set.Add(lower - 32, lower - 32);
        if (lower == 's') set.Add(0x17F, 0x17F);
        if (lower == 'k') set.Add(0x212A, 0x212A);
      }
      return RegexNode{.kind = Kind::kSet, .set = std::move(set), .children = {}};
    }
    return SetNode(std::move(set));
  }

  Result<RegexNode> Atom(int depth) {
    const char c = Peek();
    if (c == '(') return Group(depth);
    if (c == '[') {
      ++i_;
      FATHOM_TRY(CodePointSet set, Class(depth));
      return SetNode(std::move(set));
    }
    if (c == '.') {
      ++i_;
      CodePointSet newline;
      newline.Add('\n', '\n');
      return RegexNode{.kind = Kind::kSet, .set = newline.Complement(), .children = {}};
    }
    if (c == '^') return ++i_, RegexNode{.kind = Kind::kLineStart, .set = {}, .children = {}};
    if (c == '$') return ++i_, RegexNode{.kind = Kind::kLineEnd, .set = {}, .children = {}};
    if (c == '*' || c == '+' || c == '?') return Bad("a quantifier with nothing to repeat");
    if (c == '\\') {
      const char kind = Peek(1);
      const auto anchor = [&](Kind k) { return i_ += 2, RegexNode{.kind = k, .set = {}, .children = {}}; };
      if (kind == 'b') return anchor(Kind::kWordBoundary);
      if (kind == 'B') return anchor(Kind::kNotWordBoundary);
      if (kind == 'A') return anchor(Kind::kTextStart);
      if (kind == 'z') return anchor(Kind::kTextEnd);
      if (kind == 'Z') return anchor(Kind::kTextEndOrNewline);
      CodePointSet set;
      uint32_t single = 0;
      FATHOM_TRY(const bool is_set, Escape(set, single));
      return is_set ? SetNode(std::move(set)) : Char(single);
    }
    const Utf8Char literal = DecodeUtf8(p_, i_);
    if (!literal.ok) return Bad("a byte that is not UTF-8");
    i_ += literal.length;
    return Char(literal.code_point);
  }

  Result<RegexNode> Group(int depth) {
    ++i_;
    const bool outer_caseless = caseless_;
    bool look = false, negative = false;
    if (Eat("?:")) {
    } else if (Eat("?=")) {
      look = true;
    } else if (Eat("?!")) {
      look = negative = true;
    } else if (Eat("?i:")) {
      caseless_ = true;
    } else if (Eat("?-i:")) {
      caseless_ = false;
    } else if (i_ == 1 && Eat("?i)")) {  // at the very start: for the whole pattern
      caseless_ = true;
      return RegexNode{};
    } else if (Peek() == '?' || Peek() == '*') {
      return Cannot("a group of this kind");
    }
    FATHOM_TRY(RegexNode body, Alternation(depth + 1));
    caseless_ = outer_caseless;
    if (!Eat(")")) return Bad("a group without ')'");
    if (look) {
      RegexNode node{.kind = Kind::kLook, .set = {}, .children = {}};
      node.negative = negative;
      node.children.push_back(std::move(body));
      return node;
    }
    return body;
  }

  bool Hex(size_t min_digits, size_t max_digits, uint32_t& out) {
    size_t digits = 0;
    uint64_t value = 0;
    for (; digits < max_digits; ++digits, ++i_) {
      const char c = Peek();
      if (c >= '0' && c <= '9') value = value * 16 + (c - '0');
      else if ((c | 32) >= 'a' && (c | 32) <= 'f') value = value * 16 + ((c | 32) - 'a' + 10);
      else break;
    }
    out = static_cast<uint32_t>(value);
    return digits >= min_digits && value <= kMaxCodePoint;
  }

  /// After a backslash: true and a set, or false and one character.
  Result<bool> Escape(CodePointSet& set, uint32_t& single) {
    ++i_;
    if (Done()) return Bad("a pattern that ends in a backslash");
    const char c = p_[i_++];
    switch (c) {
      case 's': return set = CodePointSet::WhiteSpace(), true;
      case 'S': return set = CodePointSet::WhiteSpace().Complement(), true;
      case 'w': return set = CodePointSet::Word(), true;
      case 'W': return set = CodePointSet::Word().Complement(), true;
      case 'd': return CodePointSet::FromProperty("Nd", set), true;
      case 'D': {
        CodePointSet digits;
        CodePointSet::FromProperty("Nd", digits);
        return set = digits.Complement(), true;
      }
      case 'h': return set.Add('0', '9'), set.Add('a', 'f'), set.Add('A', 'F'), true;
      case 'p':
      case 'P': return Property(c == 'P', set);
      case 'n': return single = '\n', false;
      case 'r': return single = '\r', false;
      case 't': return single = '\t', false;
      case 'f': return single = '\f', false;
      case 'v': return single = '\v', false;
      case 'a': return single = '\a', false;
      case 'e': return single = 0x1B, false;
      case 'x':
        if (Eat("{")) {
          if (!Hex(1, 8, single) || !Eat("}")) return Bad("a malformed \\x{…}");
          return false;
        }
        if (!Hex(1, 2, single) || single >= 0x80) return Cannot("a \\x escape of a raw byte");
        return false;
      case 'u':
        if (!Hex(4, 4, single)) return Bad("a malformed \\u escape");
        return false;
      default: break;
    }
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      i_ -= 2;
      return Cannot("an escape of this kind");
    }
    --i_;
    const Utf8Char literal = DecodeUtf8(p_, i_);
    if (!literal.ok) return Bad("a byte that is not UTF-8");
    i_ += literal.length;
    single = literal.code_point;
    return false;
  }

  Result<bool> Property(bool negative, CodePointSet& set) {
    std::string_view name;
    if (Eat("{")) {
      const size_t end = p_.find('}', i_);
      if (end == std::string_view::npos) return Bad("a \\p{…} without '}'");
      name = p_.substr(i_, end - i_);
      i_ = end + 1;
      if (name.starts_with('^')) negative = !negative, name.remove_prefix(1);
    } else {  // \pL is not Ruby's, but other dialects write it
      name = p_.substr(i_, 1);
      ++i_;
    }
    CodePointSet found;
    if (!CodePointSet::FromProperty(name, found)) return Cannot("a property of this name");
    set = negative ? found.Complement() : std::move(found);
    return true;
  }

  /// After '['. Ruby's classes nest and intersect (&&).
  Result<CodePointSet> Class(int depth) {
    if (depth > kMaxDepth) return Cannot("classes nested too deeply");
    const bool negative = Eat("^");
    CodePointSet set, intersection;
    bool intersecting = false;
    const auto close_operand = [&] {
      intersection = intersecting ? intersection.Intersect(set) : set;
      intersecting = true;
      set = {};
    };
    for (bool first = true;; first = false) {
      if (Done()) return Bad("a class without ']'");
      if (Peek() == ']' && !first) {
        ++i_;
        break;
      }
      if (Eat("&&")) {
        close_operand();
        continue;
      }
      if (Peek() == '[') {
        if (Peek(1) == ':') {
          FATHOM_CHECK_OK(Posix(set));
          continue;
        }
        ++i_;
        FATHOM_TRY(const CodePointSet inner, Class(depth + 1));
        set.Add(inner);
        continue;
      }
      CodePointSet part;
      uint32_t low = 0;
      FATHOM_TRY(const bool is_set, ClassItem(part, low));
      if (is_set) {
        set.Add(part);
        continue;
      }
      uint32_t high = low;
      if (Peek() == '-' && Peek(1) != ']' && Peek(1) != '\0' && !p_.substr(i_ + 1).starts_with("&&")) {
        ++i_;
        if (Peek() == '[') return Cannot("a range that ends in a class");
        FATHOM_TRY(const bool high_is_set, ClassItem(part, high));
        if (high_is_set) return Cannot("a range that ends in a class");
        if (high < low) return Bad("a range whose bounds are reversed");
      }
      set.Add(low, high);
    }
    if (intersecting) {
      close_operand();
      set = std::move(intersection);
    }
    if (negative && caseless_) set.AddOtherCases();
    return negative ? set.Complement() : std::move(set);
  }

  Result<bool> ClassItem(CodePointSet& set, uint32_t& single) {
    if (Peek() == '\\') {
      if (Peek(1) == 'b') return i_ += 2, single = '\b', false;
      return Escape(set, single);
    }
    const Utf8Char literal = DecodeUtf8(p_, i_);
    if (!literal.ok) return Bad("a byte that is not UTF-8");
    i_ += literal.length;
    single = literal.code_point;
    return false;
  }

  Status Posix(CodePointSet& set) {
    const size_t end = p_.find(":]", i_);
    if (end == std::string_view::npos) return Bad("a malformed [:class:]");
    std::string_view name = p_.substr(i_ + 2, end - i_ - 2);
    const bool negative = name.starts_with('^');
    if (negative) name.remove_prefix(1);
    CodePointSet found;
    bool known = true;
    if (name == "punct") {  // Oniguruma counts symbols too, in Unicode
      CodePointSet::FromProperty("P", found);
      CodePointSet::FromProperty("S", found);
    } else if (name == "digit") {
      CodePointSet::FromProperty("Nd", found);
    } else if (name == "alnum") {
      CodePointSet::FromProperty("Alphabetic", found);
      CodePointSet::FromProperty("Nd", found);
    } else if (name == "alpha" || name == "space" || name == "word" || name == "ascii") {
      CodePointSet::FromProperty(name, found);
    } else {
      known = false;
    }
    if (!known) return Cannot("a [:class:] of this name");
    set.Add(negative ? found.Complement() : found);
    i_ = end + 2;
    return {};
  }

  std::string_view p_;
  size_t i_ = 0;
  bool caseless_ = false;
};

}  // namespace

Result<RegexNode> ParseRegex(std::string_view pattern) { return Parser(pattern).Parse(); }

}  // namespace fathom
