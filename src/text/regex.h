// Regular expressions for splitting text before BPE, with the meaning they have in tokenizer.json (Oniguruma's Ruby
// syntax over Unicode 16.0).
//
// Two engines behind one interface. The patterns of all known tokenisers are alternations of runs of character
// classes; they are compiled to a small backtracking program over precomputed sets, which needs no property look-ups,
// skips what cannot begin a match, and does not go quadratic on long runs. Everything else (lazy quantifiers,
// look-behind, back-references, …) goes to PCRE2 with JIT and match limits. Both treat a byte that is not UTF-8 as
// U+FFFD of length one. Immutable after Compile() and thread-safe. A search that exceeds its step budget (a pattern
// made to explode) ends: the rest of the text counts as without matches.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace fathom {

/// A borrowed callable, so that the engines need not be templates.
template <typename Signature>
class FunctionRef;
template <typename R, typename... Args>
class FunctionRef<R(Args...)> {
 public:
  template <typename Fn>
    requires(!std::is_same_v<std::remove_cvref_t<Fn>, FunctionRef>)
  FunctionRef(Fn&& fn)  // NOLINT: implicit by intent
      : object_(const_cast<void*>(static_cast<const void*>(&fn))), call_([](void* object, Args... args) -> R {
          return (*static_cast<std::remove_reference_t<Fn>*>(object))(args...);
        }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

enum class RegexEngine { kAuto, kProgram, kPcre2 };

class SplitRegex {
 public:
  /// Errors: kCorrupt when the pattern is not well formed, kUnsupported when neither engine can do it (with kAuto),
  /// or the engine asked for cannot.
  static Result<std::unique_ptr<const SplitRegex>> Compile(std::string_view pattern,
                                                           RegexEngine engine = RegexEngine::kAuto);
  virtual ~SplitRegex() = default;

  /// Calls visit(begin, end) for every match from left to right, none overlapping; an empty match does not follow
  /// directly on another match.
  virtual void FindAll(std::string_view text, FunctionRef<void(size_t, size_t)> visit) const = 0;
  virtual RegexEngine engine() const = 0;
};

/// A pattern that matches `literal` itself.
std::string EscapeRegex(std::string_view literal);

}  // namespace fathom
