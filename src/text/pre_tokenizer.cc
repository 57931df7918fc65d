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

}  // namespace fathom
