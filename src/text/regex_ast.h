// The parsed form of a split pattern; between regex_parse.cc and regex_program.cc only.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/unicode.h"

namespace fathom {

struct RegexNode {
  enum class Kind {
    kEmpty,
    kSet,         // one character of `set`
    kConcat,
    kAlternate,
    kRepeat,      // children[0], min to max times (max -1: no bound), greedy
    kLook,        // children[0] does (not: negative) match here; ahead only
    kLineStart, kLineEnd, kTextStart, kTextEnd, kTextEndOrNewline, kWordBoundary, kNotWordBoundary,
  };
  Kind kind = Kind::kEmpty;
  CodePointSet set;
  std::vector<RegexNode> children;
  int min = 0, max = 0;
  bool possessive = false;  // of a kRepeat over a kSet only
  bool negative = false;
};

/// Errors: kCorrupt for a pattern that is malformed in every dialect, kUnsupported for what the program engine leaves
/// to PCRE2.
Result<RegexNode> ParseRegex(std::string_view pattern);

}  // namespace fathom
