// Verifiable problems: a seeded, unbounded stream of questions with a worked solution and one right answer.
//
// A problem belongs to the training set or to the held-out set by a hash of its question, so the two never share one,
// whatever the seeds; the same seed, split and families give the same problems on every machine. Not thread-safe;
// one generator per thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

struct Problem {
  std::string family;    // "arithmetic", "percent", … one of TaskFamilies()
  std::string kind;      // within the family: "addition", "simple_interest", …
  std::string question;  // what a user would type
  std::string thinking;  // a short worked solution, ends where the answer is known
  std::string answer;    // what stands after the thinking; short, exact
};

enum class Split { kTrain, kHeldOut };

struct TaskFamily {
  std::string_view name;
  std::string_view about;  // one line
};
std::span<const TaskFamily> TaskFamilies();

/// Which split a question belongs to; one in 16 is held out. Spelling counts, so compare questions as generated.
Split SplitOf(std::string_view question);

/// Whether a model's final answer is right: equal after trimming white space and a closing full stop, and for numbers
/// by value (thousands separators, a leading currency sign and trailing zeros after the point do not count; nor does
/// the sign after a percentage). A countdown answer is right if it is any expression with brackets and the operations
/// that the question allows (+ - * or + -), uses the numbers of the question once each and has the target's value. Safe
/// on any text, however long or deep.
bool AnswerMatches(const Problem& problem, std::string_view given);

/// What guessing gets: the probability that the best constant or uniform guess over a kind's possible answers is right,
/// measured over 2,000 problems of the family (0 to 1). For each kind the better of two guesses counts: always its most
/// frequent answer, or one of the answers that the question itself offers (yes/no: 1/2; which of four numbers: 1/4).
/// 0 for an unknown family.
double ChanceLevel(std::string_view family);

class TaskGenerator {
 public:
  /// families: names to draw from, uniformly; empty: all. Errors: kInvalidArgument naming an unknown family.
  static Result<TaskGenerator> Create(uint64_t seed, Split split, std::span<const std::string> families = {});

  Problem Next();

  /// Position of the stream: problems drawn so far. A generator made with the same arguments and moved to the same
  /// position continues with the same problems; seeking takes constant time.
  uint64_t position() const { return position_; }
  void Seek(uint64_t position) { position_ = position; }

 private:
  TaskGenerator(uint64_t seed, Split split, std::vector<int> families)
      : seed_(seed), split_(split), families_(std::move(families)) {}

  uint64_t seed_;
  Split split_;
  std::vector<int> families_;  // indices into TaskFamilies()
  uint64_t position_ = 0;
};

}  // namespace fathom
