// Units: a mixed amount in its small unit, a small unit's amount as a mixed one, sums of mixed amounts, how often a
// small amount fits.
#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

struct UnitPair {
  const char* large;
  const char* small;
  int64_t ratio;
};

constexpr UnitPair kPairs[] = {{"km", "m", 1000}, {"m", "cm", 100}, {"kg", "g", 1000},
                               {"h", "min", 60},  {"min", "s", 60}, {"l", "ml", 1000}};

/// large * ratio, by the ratio's zeros.
int64_t ToSmall(Trace& trace, int64_t large, int64_t ratio) {
  if (ratio == 60) {
    const int64_t tens = trace.Multiply(large, 6);
    trace.Line("{}*10={}", tens, tens * 10);
  } else {
    trace.Line("{}*{}={}", large, ratio, large * ratio);
  }
  return large * ratio;
}

struct Mixed {
  int64_t large, small;
};

/// An amount in small units as a mixed one.
Mixed FromSmall(Trace& trace, int64_t small, int64_t ratio) {
  if (ratio != 60) {
    trace.Line("{}/{}={} r{}", small, ratio, small / ratio, small % ratio);
    return {small / ratio, small % ratio};
  }
  // Multiples of 60 until one is too large.
  int64_t times = 0;
  std::string multiples;
  for (; (times + 1) * 60 <= small; ++times) multiples += fmt::format("{}:{} ", times + 1, (times + 1) * 60);
  trace.Line("{}{}>{}", multiples, (times + 1) * 60, small);
  if (times == 0) return {0, small};
  return {times, trace.Subtract(small, times * 60)};
}

int64_t SmallPart(Random& random, int64_t ratio) {
  if (ratio != 1000) return random.In(1, ratio - 1);
  return random.Below(3) == 0 ? random.In(1, 999) : 10 * random.In(1, 99);
}

void ToSmallUnit(Random& random, Draft& draft) {
  const UnitPair& unit = random.Pick(kPairs);
  const int64_t large = random.In(1, unit.ratio == 60 ? 12 : 30), small = SmallPart(random, unit.ratio);
  draft.question =
      Say(random,
          {"How many {2} are {0} {3} {1} {2}?", "Convert {0} {3} {1} {2} to {2}.", "Write {0} {3} and {1} {2} in {2}.",
           "{4} needs {0} {3} {1} {2}. How many {2} is that?", "What is {0} {3} {1} {2} in {2}?"},
          large, small, unit.small, unit.large, random.Pick(Names()));
  Trace trace(draft.thinking);
  draft.answer = fmt::format("{} {}", trace.Add(ToSmall(trace, large, unit.ratio), small), unit.small);
}

void ToMixed(Random& random, Draft& draft) {
  const UnitPair& unit = random.Pick(kPairs);
  const int64_t large = random.In(1, unit.ratio == 60 ? 7 : 30);
  const int64_t amount = large * unit.ratio + SmallPart(random, unit.ratio);
  draft.question =
      Say(random,
          {"How many {2} and {1} are {0} {1}?", "Convert {0} {1} to {2} and {1}.", "Write {0} {1} in {2} and {1}.",
           "{3} needs {0} {1}. How much is that in {2} and {1}?", "What is {0} {1} in {2} and {1}?"},
          amount, unit.small, unit.large, random.Pick(Names()));
  Trace trace(draft.thinking);
  const Mixed mixed = FromSmall(trace, amount, unit.ratio);
  draft.answer = fmt::format("{} {} {} {}", mixed.large, unit.large, mixed.small, unit.small);
}

void Sum(Random& random, Draft& draft) {
  const UnitPair& unit = random.Pick(kPairs);
  const Mixed a = {random.In(1, 9), SmallPart(random, unit.ratio)},
              b = {random.In(1, 9), SmallPart(random, unit.ratio)};
  const std::string first = fmt::format("{} {} {} {}", a.large, unit.large, a.small, unit.small);
  const std::string second = fmt::format("{} {} {} {}", b.large, unit.large, b.small, unit.small);
  draft.question = Say(random,
                       {"Add {0} and {1}.", "What is {0} plus {1}?", "How much is {0} and {1} together?",
                        "The first part is {0}, the second {1}. How much is the whole?",
                        "{2} first needs {0}, then {1}. How much is that in all?"},
                       first, second, random.Pick(Names()));
  Trace trace(draft.thinking);
  const int64_t small = trace.Add(a.small, b.small);
  int64_t large = trace.Add(a.large, b.large);
  int64_t rest = small;
  if (small >= unit.ratio) {
    trace.Line("{}>={}", small, unit.ratio);
    rest = trace.Subtract(small, unit.ratio);
    trace.Line("{}+1={}", large, large + 1);
    ++large;
  } else {
    trace.Line("{}<{}", small, unit.ratio);
  }
  draft.answer = fmt::format("{} {} {} {}", large, unit.large, rest, unit.small);
}

void Pieces(Random& random, Draft& draft) {
  // `count` pieces of a size that is given in the small unit; the answer is mixed.
  const UnitPair& unit = random.Pick(kPairs);
  const int64_t count = random.In(2, 9);
  const int64_t size = unit.ratio == 60    ? random.In(11, 59)
                       : unit.ratio == 100 ? random.In(15, 99)
                                           : 10 * random.In(15, 99);
  const int64_t total = count * size;
  if (total < unit.ratio) return Pieces(random, draft);
  draft.question = Say(random,
                       {"How much are {0} times {1} {2} in {3} and {2}?", "What is {0} * {1} {2}, in {3} and {2}?",
                        "{4} needs {1} {2} a day. How much is that in {0} days, in {3} and {2}?",
                        "Each of {0} parts is {1} {2}. How much is that in all, in {3} and {2}?"},
                       count, size, unit.small, unit.large, random.Pick(Names()));
  Trace trace(draft.thinking);
  const Mixed mixed = FromSmall(trace, trace.Multiply(size, count), unit.ratio);
  draft.answer = fmt::format("{} {} {} {}", mixed.large, unit.large, mixed.small, unit.small);
}

constexpr Kind kKinds[] = {
    {"to_small_unit", ToSmallUnit}, {"to_mixed_units", ToMixed}, {"sum_of_amounts", Sum}, {"pieces", Pieces}};

}  // namespace

std::span<const Kind> UnitKinds() { return kKinds; }

}  // namespace fathom
