#include "text/regex_program.h"

#include <algorithm>
#include <bit>

namespace fathom {
namespace {

using Kind = RegexNode::Kind;
constexpr size_t kMaxCode = 20000, kMaxSets = 1000;
constexpr uint32_t kUnbounded = ~uint32_t{0};

/// What a match can begin with; nullable when it may be empty (or begin with an assertion).
struct First {
  CodePointSet set;
  bool nullable = false;
};

First FirstOf(const RegexNode& node) {
  First first;
  switch (node.kind) {
    case Kind::kSet: first.set = node.set; return first;
    case Kind::kConcat:
      for (const RegexNode& child : node.children) {
        const First part = FirstOf(child);
        first.set.Add(part.set);
        if (!part.nullable) return first;
      }
      first.nullable = true;
      return first;
    case Kind::kAlternate:
      for (const RegexNode& child : node.children) {
        const First part = FirstOf(child);
        first.set.Add(part.set);
        first.nullable |= part.nullable;
      }
      return first;
    case Kind::kRepeat:
      first = FirstOf(node.children[0]);
      first.nullable |= node.min == 0;
      if (node.max == 0) first = {.set = {}, .nullable = true};
      return first;
    default: first.nullable = true; return first;
  }
}

size_t CharLength(std::string_view text, size_t pos) {
  return static_cast<uint8_t>(text[pos]) < 0x80 ? 1 : DecodeUtf8(text, pos).length;
}

/// Where the character that ends at pos begins.
size_t StepBack(std::string_view text, size_t pos) {
  for (size_t length = 1; length <= 4 && length <= pos; ++length) {
    const auto byte = static_cast<uint8_t>(text[pos - length]);
    if ((byte & 0xC0) == 0x80) continue;
    if (byte < 0x80) break;
    const Utf8Char c = DecodeUtf8(text, pos - length);
    if (c.ok && c.length == length) return pos - length;
    break;
  }
  return pos - 1;
}

}  // namespace

class RegexCompiler {
 public:
  explicit RegexCompiler(RegexProgram& program) : program_(program) {}

  Status Emit(const RegexNode& node) {
    if (program_.code_.size() > kMaxCode || program_.sets_.size() > kMaxSets) return Fail(ErrorCode::kUnsupported, "the pattern's program is too large");
    switch (node.kind) {
      case Kind::kEmpty: return {};
      case Kind::kSet: Add({.op = Op::kSet, .set = SetIndex(node.set)}); return {};
      case Kind::kConcat:
        for (const RegexNode& child : node.children) FATHOM_CHECK_OK(Emit(child));
        return {};
      case Kind::kAlternate: {
        std::vector<uint32_t> jumps;
        for (size_t i = 0; i + 1 < node.children.size(); ++i) {
          const uint32_t split = Add({.op = Op::kSplit});
          program_.code_[split].x = split + 1;
          FATHOM_CHECK_OK(Emit(node.children[i]));
          jumps.push_back(Add({.op = Op::kJump}));
          program_.code_[split].y = Here();
        }
        FATHOM_CHECK_OK(Emit(node.children.back()));
        for (uint32_t jump : jumps) program_.code_[jump].x = Here();
        return {};
      }
      case Kind::kRepeat: return EmitRepeat(node);
      case Kind::kLook: {
        const uint32_t look = Add({.op = Op::kLook, .negative = node.negative});
        FATHOM_CHECK_OK(Emit(node.children[0]));
        Add({.op = Op::kAccept});
        program_.code_[look].x = Here();
        return {};
      }
      default: Add({.op = Op::kAssert, .assertion = node.kind}); return {};
    }
  }

  uint32_t Add(RegexProgram::Instruction instruction) {
    program_.code_.push_back(instruction);
    return Here() - 1;
  }
  uint32_t Here() const { return static_cast<uint32_t>(program_.code_.size()); }

 private:
  using Op = RegexProgram::Op;

  uint32_t SetIndex(const CodePointSet& set) {
    for (size_t i = 0; i < program_.plain_sets_.size(); ++i) {
      if (program_.plain_sets_[i].ranges() == set.ranges()) return static_cast<uint32_t>(i);
    }
    program_.plain_sets_.push_back(set);
    program_.sets_.emplace_back(set);
    return static_cast<uint32_t>(program_.sets_.size() - 1);
  }

  Status EmitRepeat(const RegexNode& node) {
    const RegexNode& body = node.children[0];
    if (body.kind == Kind::kSet) {
      Add({.op = Op::kRun, .keep = node.possessive, .set = SetIndex(body.set), .min = static_cast<uint32_t>(node.min),
           .max = node.max < 0 ? kUnbounded : static_cast<uint32_t>(node.max)});
      return {};
    }
    if (node.max < 0 && FirstOf(body).nullable) {
      return Fail(ErrorCode::kUnsupported, "an unbounded repeat of what may match nothing");
    }
    const uint32_t before = Here();
    for (int i = 0; i < node.min; ++i) {
      FATHOM_CHECK_OK(Emit(body));
      if (Here() == before) return {};  // nothing, however often
    }
    if (node.max < 0) {
      const uint32_t split = Add({.op = Op::kSplit});
      program_.code_[split].x = split + 1;
      FATHOM_CHECK_OK(Emit(body));
      Add({.op = Op::kJump, .x = split});
      program_.code_[split].y = Here();
      return {};
    }
    std::vector<uint32_t> splits;
    for (int i = node.min; i < node.max; ++i) {
      splits.push_back(Add({.op = Op::kSplit}));
      program_.code_[splits.back()].x = Here();
      FATHOM_CHECK_OK(Emit(body));
    }
    for (uint32_t split : splits) program_.code_[split].y = Here();
    return {};
  }

  RegexProgram& program_;
};

Result<std::unique_ptr<const SplitRegex>> RegexProgram::Build(const RegexNode& tree) {
  auto program = std::make_unique<RegexProgram>();
  // A group of alternatives among the alternatives is as good as its members in its place.
  std::vector<RegexNode> alternatives;
  const auto flatten = [&](const auto& self, const RegexNode& node) -> void {
    if (node.kind != Kind::kAlternate) return alternatives.push_back(node);
    for (const RegexNode& child : node.children) self(self, child);
  };
  flatten(flatten, tree);
  if (alternatives.size() > 64) return Fail(ErrorCode::kUnsupported, "more than 64 alternatives");
  RegexCompiler compiler(*program);
  for (const RegexNode& alternative : alternatives) {
    program->starts_.push_back(compiler.Here());
    FATHOM_CHECK_OK(compiler.Emit(alternative));
    compiler.Add({.op = Op::kAccept});
  }
  program->word_ = FastSet(CodePointSet::Word());
  program->Analyse(alternatives);
  return program;
}

void RegexProgram::Analyse(const std::vector<RegexNode>& alternatives) {
  CodePointSet any;
  for (size_t i = 0; i < alternatives.size(); ++i) {
    const First first = FirstOf(alternatives[i]);
    const uint64_t bit = uint64_t{1} << i;
    if (first.nullable) {
      nullable_ |= bit;
      for (uint64_t& mask : by_first_byte_) mask |= bit;
      any.Add(0, kMaxCodePoint);
      continue;
    }
    any.Add(first.set);
    const bool broken = first.set.Contains(kReplacement);
    for (const auto& range : first.set.ranges()) {
      for (uint32_t c = range.first; c <= range.last && c < 0x80; ++c) by_first_byte_[c] |= bit;
      // Lead bytes grow with the code point, so a range covers the lead bytes between those of its ends.
      const uint32_t from = std::max(range.first, 0x80u), to = range.last;
      if (from > to) continue;
      std::string low, high;
      AppendUtf8(from, low);
      AppendUtf8(to, high);
      for (int byte = static_cast<uint8_t>(low[0]); byte <= static_cast<uint8_t>(high[0]); ++byte) {
        by_first_byte_[byte] |= bit;
      }
    }
    if (broken) {
      for (int byte = 0x80; byte < 256; ++byte) by_first_byte_[byte] |= bit;
    }
  }
  first_ = FastSet(any);
  // A run need not remember how to give characters back when what follows cannot fail, or cannot begin with one of
  // the run's characters.
  for (size_t pc = 0; pc < code_.size(); ++pc) {
    if (code_[pc].op != Op::kRun) continue;
    size_t next = pc + 1;
    while (code_[next].op == Op::kRun && code_[next].min == 0) ++next;
    if (code_[next].op == Op::kAccept) code_[pc].keep = true;
    const Instruction& after = code_[pc + 1];
    if ((after.op == Op::kSet || (after.op == Op::kRun && after.min > 0)) &&
        plain_sets_[code_[pc].set].Intersect(plain_sets_[after.set]).empty()) {
      code_[pc].keep = true;
    }
  }
}

bool RegexProgram::Holds(RegexNode::Kind assertion, std::string_view text, size_t pos) const {
  const auto word_at = [&](size_t at) { return at < text.size() && word_.Contains(DecodeUtf8(text, at).code_point); };
  switch (assertion) {
    case Kind::kLineStart: return pos == 0 || (text[pos - 1] == '\n' && pos < text.size());
    case Kind::kLineEnd: return pos == text.size() || text[pos] == '\n';
    case Kind::kTextStart: return pos == 0;
    case Kind::kTextEnd: return pos == text.size();
    case Kind::kTextEndOrNewline: return pos == text.size() || (pos + 1 == text.size() && text[pos] == '\n');
    case Kind::kWordBoundary:
    case Kind::kNotWordBoundary: {
      const bool before = pos > 0 && word_at(StepBack(text, pos));
      return (before != word_at(pos)) == (assertion == Kind::kWordBoundary);
    }
    default: return false;
  }
}

size_t RegexProgram::Match(Search& search, uint32_t pc, size_t pos) const {
  const std::string_view text = search.text;
  const size_t base = search.stack.size();
  for (;;) {
    const Instruction& in = code_[pc];
    bool ok = true;
    switch (in.op) {
      case Op::kAccept:
        search.stack.resize(base);
        return pos;
      case Op::kSet: {
        if (pos >= text.size()) {
          ok = false;
          break;
        }
        const Utf8Char c = DecodeUtf8(text, pos);
        ok = sets_[in.set].Contains(c.code_point);
        pos += c.length;
        ++pc;
        break;
      }
      case Op::kRun: {
        const FastSet& set = sets_[in.set];
        size_t end = pos, floor = in.min == 0 ? pos : kNone;
        uint32_t count = 0;
        while (count < in.max && end < text.size()) {
          const auto byte = static_cast<uint8_t>(text[end]);
          if (byte < 0x80) {
            if (!set.ContainsAscii(byte)) break;
            ++end;
          } else {
            const Utf8Char c = DecodeUtf8(text, end);
            if (!set.Contains(c.code_point)) break;
            end += c.length;
          }
          if (++count == in.min) floor = end;
        }
        search.budget -= count >> 2;
        ok = count >= in.min;
        if (ok && !in.keep && end > floor) search.stack.push_back({pc + 1, end, floor});
        pos = end;
        ++pc;
        break;
      }
      case Op::kSplit:
        search.stack.push_back({in.y, pos, pos});
        pc = in.x;
        break;
      case Op::kJump: pc = in.x; break;
      case Op::kLook: {
        ok = (Match(search, pc + 1, pos) != kNone) != in.negative;
        pc = in.x;
        break;
      }
      case Op::kAssert:
        ok = Holds(in.assertion, text, pos);
        ++pc;
        break;
    }
    if (ok && in.op != Op::kSplit && in.op != Op::kJump) continue;
    if (--search.budget < 0) {
      search.stack.resize(base);
      return kNone;
    }
    if (ok) continue;
    if (search.stack.size() == base) return kNone;
    Choice& choice = search.stack.back();
    pc = choice.pc;
    if (choice.pos > choice.floor) {  // a run gives one character back
      choice.pos = StepBack(text, choice.pos);
      pos = choice.pos;
      if (choice.pos <= choice.floor) search.stack.pop_back();
    } else {
      pos = choice.pos;
      search.stack.pop_back();
    }
  }
}

void RegexProgram::FindAll(std::string_view text, FunctionRef<void(size_t, size_t)> visit) const {
  Search search{.text = text, .stack = {}, .budget = 1'000'000 + 256 * static_cast<int64_t>(text.size())};
  size_t last_end = kNone;
  for (size_t pos = 0; pos <= text.size();) {
    uint64_t candidates = nullable_;
    if (pos < text.size()) {
      const auto byte = static_cast<uint8_t>(text[pos]);
      candidates = by_first_byte_[byte];
      if (candidates == 0 || (byte >= 0x80 && !first_.Contains(DecodeUtf8(text, pos).code_point))) {
        pos += CharLength(text, pos);
        continue;
      }
    }
    size_t end = kNone;
    for (uint64_t left = candidates; left != 0 && end == kNone; left &= left - 1) {
      end = Match(search, starts_[std::countr_zero(left)], pos);
      if (search.budget < 0) return;
    }
    if (end != kNone && !(end == pos && last_end == pos)) {
      visit(pos, end);
      last_end = end;
      if (end > pos) {
        pos = end;
        continue;
      }
    }
    if (pos == text.size()) return;
    if (end == kNone && std::has_single_bit(candidates)) {
      // The only alternative begins with an unbounded run and failed from here: it fails from every later start in the
      // same run too (the ends that it could try are among those it has tried).
      const Instruction& in = code_[starts_[std::countr_zero(candidates)]];
      if (in.op == Op::kRun && in.max == kUnbounded) {
        const FastSet& set = sets_[in.set];
        const size_t failed = pos;
        while (pos < text.size() && set.Contains(DecodeUtf8(text, pos).code_point)) pos += CharLength(text, pos);
        if (pos > failed) continue;
      }
    }
    pos += CharLength(text, pos);
  }
}

}  // namespace fathom
