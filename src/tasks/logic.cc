// Logic: who stands where in a chain of comparisons, truth values of and/or/not, syllogisms with made-up nouns, chains
// of conditions.
#include <algorithm>
#include <array>
#include <vector>

#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

struct Adjective {
  const char *more, *less, *most, *least;
};
constexpr Adjective kAdjectives[] = {{"taller", "shorter", "tallest", "shortest"},
                                     {"older", "younger", "oldest", "youngest"},
                                     {"faster", "slower", "fastest", "slowest"},
                                     {"richer", "poorer", "richest", "poorest"}};

template <typename T>
std::vector<std::string> Several(Random& random, const T& from, int64_t count) {
  std::vector<std::string> all(from.begin(), from.end());
  random.Shuffle(all);
  all.resize(static_cast<size_t>(count));
  return all;
}

void Chain(Random& random, Draft& draft) {
  const std::vector<std::string> people = Several(random, Names(), random.In(3, 5));  // the most first
  const Adjective& adjective = random.Pick(kAdjectives);
  std::vector<size_t> order;
  for (size_t i = 0; i + 1 < people.size(); ++i) order.push_back(i);
  random.Shuffle(order);
  std::string text;
  std::vector<std::string> pairs;
  for (const size_t i : order) {
    pairs.push_back(people[i] + " > " + people[i + 1]);
    text += random.Below(3) == 0 ? fmt::format("{} is {} than {}. ", people[i + 1], adjective.less, people[i])
                                 : fmt::format("{} is {} than {}. ", people[i], adjective.more, people[i + 1]);
  }
  Trace trace(draft.thinking);
  trace.Line("pairs: {}", JoinWith(pairs, ", "));
  trace.Line("chain: {}", JoinWith(people, " > "));
  const int64_t asked = random.Below(people.size() > 3 ? 3 : 2);
  if (asked == 2) {
    draft.question = text + fmt::format("Who is the second {}?", adjective.most);
    draft.answer = people[1];
  } else {
    draft.question = text + Say(random, {"Who is the {0}?", "Which of them is the {0}?", "Name the {0}."},
                                asked == 0 ? adjective.most : adjective.least);
    draft.answer = asked == 0 ? people.front() : people.back();
  }
  draft.choices = static_cast<int>(people.size());
}

/// A truth expression. Leaves are true and false; a pair stands in brackets unless it is the whole.
struct Truth {
  enum class Op { kLeaf, kNot, kAnd, kOr } op = Op::kLeaf;
  bool value = false;
  std::vector<Truth> parts;
};

Truth MakeTruth(Random& random, int64_t leaves) {
  Truth truth;
  if (leaves == 1) {
    truth.value = random.Coin();
  } else {
    truth.op = random.Coin() ? Truth::Op::kAnd : Truth::Op::kOr;
    const int64_t left = random.In(1, leaves - 1);
    truth.parts.push_back(MakeTruth(random, left));
    truth.parts.push_back(MakeTruth(random, leaves - left));
  }
  if (random.Below(4) != 0) return truth;
  Truth negated;
  negated.op = Truth::Op::kNot;
  negated.parts.push_back(std::move(truth));
  return negated;
}

std::string Show(const Truth& truth, bool whole) {
  switch (truth.op) {
    case Truth::Op::kLeaf:
      return truth.value ? "true" : "false";
    case Truth::Op::kNot:
      return "not " + Show(truth.parts[0], false);
    default: {
      const std::string text =
          Show(truth.parts[0], false) + (truth.op == Truth::Op::kAnd ? " and " : " or ") + Show(truth.parts[1], false);
      return whole ? text : "(" + text + ")";
    }
  }
}

/// Replaces every operation on leaves by its value, all at once.
void Reduce(Truth& truth) {
  if (truth.op == Truth::Op::kLeaf) return;
  const auto leaf = [](const Truth& part) { return part.op == Truth::Op::kLeaf; };
  if (!std::all_of(truth.parts.begin(), truth.parts.end(), leaf)) {
    for (Truth& part : truth.parts) Reduce(part);
    return;
  }
  bool value = false;
  if (truth.op == Truth::Op::kNot) {
    value = !truth.parts[0].value;
  } else {
    const bool a = truth.parts[0].value, b = truth.parts[1].value;
    value = truth.op == Truth::Op::kAnd ? a && b : a || b;
  }
  truth = Truth{Truth::Op::kLeaf, value, {}};
}

void Boolean(Random& random, Draft& draft) {
  Truth truth = MakeTruth(random, random.In(2, 4));
  draft.question = Say(random,
                       {"Is this true or false: {0}?", "Evaluate: {0}", "What is the value of {0}?",
                        "Work out the truth value of {0}.", "{1} says: {0}. Is that true or false?"},
                       Show(truth, true), random.Pick(Names()));
  Trace trace(draft.thinking);
  do {
    Reduce(truth);
    trace.Line("{}", Show(truth, true));
  } while (truth.op != Truth::Op::kLeaf);
  draft.answer = truth.value ? "true" : "false";
  draft.choices = 2;
}

/// Rules "from each item to the next" of one or two chains in any order, a question from one item to another, and the
/// walk that answers it. No item has two rules, so the walk has no choices.
struct Walk {
  std::vector<std::pair<std::string, std::string>> rules;
  std::string from, to;
  bool follows = false;
};

Walk MakeWalk(Random& random, const std::vector<std::string>& items, Trace& trace) {
  Walk walk;
  const size_t cut = static_cast<size_t>(random.In(2, static_cast<int64_t>(items.size()) - 1));
  // items[0..cut) is a chain, items[cut..) another.
  for (size_t i = 0; i + 1 < items.size(); ++i) {
    if (i + 1 != cut) walk.rules.emplace_back(items[i], items[i + 1]);
  }
  random.Shuffle(walk.rules);
  walk.follows = random.Coin();
  size_t from = 0, to = 0;
  if (walk.follows) {
    from = static_cast<size_t>(random.Below(static_cast<int64_t>(cut) - 1));
    to = static_cast<size_t>(random.In(static_cast<int64_t>(from) + 1, static_cast<int64_t>(cut) - 1));
  } else {
    from = static_cast<size_t>(random.Below(static_cast<int64_t>(cut)));
    // Either backwards in the same chain or into the other one.
    to = from > 0 && random.Coin()
             ? static_cast<size_t>(random.Below(static_cast<int64_t>(from)))
             : static_cast<size_t>(random.In(static_cast<int64_t>(cut), static_cast<int64_t>(items.size()) - 1));
  }
  walk.from = items[from];
  walk.to = items[to];
  const size_t last = walk.follows ? to : cut - 1;
  std::string line = items[from];
  for (size_t i = from + 1; i <= last; ++i) line += ", " + items[i];
  trace.Line("find {}: {}", walk.to, line);
  trace.Append(walk.follows ? " yes" : ", end no");
  return walk;
}

void Syllogism(Random& random, Draft& draft) {
  Trace trace(draft.thinking);
  const Walk walk = MakeWalk(random, Several(random, MadeUp(), random.In(4, 6)), trace);
  for (const auto& [from, to] : walk.rules) draft.question += fmt::format("All {} are {}. ", from, to);
  draft.question +=
      Say(random,
          {"Does it follow that all {0} are {1}?", "Must all {0} be {1}?",
           "Can we conclude that every one of the {0} is one of the {1}?", "Is it certain that {0} are {1}?"},
          walk.from, walk.to);
  draft.answer = walk.follows ? "yes" : "no";
  draft.choices = 2;
}

void IfThen(Random& random, Draft& draft) {
  constexpr std::array<std::string_view, 8> kColors = {"red",   "blue",   "green", "yellow",
                                                       "white", "orange", "black", "brown"};
  Trace trace(draft.thinking);
  const Walk walk = MakeWalk(random, Several(random, kColors, random.In(4, 6)), trace);
  const char* thing = random.Pick({"lamp", "door", "box", "gate"});
  const char* state = thing == std::string_view("lamp") ? "on" : "open";
  for (const auto& [from, to] : walk.rules) {
    draft.question += fmt::format("If the {} {} is {}, the {} {} is {}. ", from, thing, state, to, thing, state);
  }
  draft.question += Say(random,
                        {"The {0} {2} is {3}. Must the {1} {2} be {3}?",
                         "Now the {0} {2} is {3}. Does it follow that the {1} {2} is {3}?",
                         "The {0} {2} is {3}. Is it certain that the {1} {2} is {3}?"},
                        walk.from, walk.to, thing, state);
  draft.answer = walk.follows ? "yes" : "no";
  draft.choices = 2;
}

constexpr Kind kKinds[] = {{"chain", Chain}, {"boolean", Boolean}, {"syllogism", Syllogism}, {"if_then", IfThen}};

}  // namespace

std::span<const Kind> LogicKinds() { return kKinds; }

}  // namespace fathom
