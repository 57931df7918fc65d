// Comparison (largest, smallest, which of two, second largest) and sorting (numbers, words).
#include <algorithm>
#include <vector>

#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

/// `count` different numbers, often alike in their first digits; about a third of the lists have decimals.
std::vector<std::string> DifferentNumbers(Random& random, int64_t count, int64_t digits, bool decimals) {
  int64_t bound = 1;
  for (int64_t i = 0; i < digits; ++i) bound *= 10;
  const int64_t base = random.In(bound / 10, bound - 1);
  std::vector<int64_t> values;
  while (static_cast<int64_t>(values.size()) < count) {
    int64_t value = 0;
    switch (random.Below(3)) {
      case 0:
        value = random.In(1, bound - 1);
        break;
      case 1:
        value = random.In(bound / 10, bound - 1);
        break;
      default:
        value = base - base % (bound / 10) + random.Below(bound / 10);
        break;
    }
    if (value > 0 && std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  std::vector<std::string> numbers;
  const int64_t scale = random.Coin() ? 10 : 100;
  for (const int64_t value : values) {
    numbers.push_back(decimals ? FromHundredths(value * 100 / scale) : std::to_string(value));
  }
  return numbers;
}

/// "004.50" as "4.5".
std::string Unpadded(std::string text) {
  text.erase(0, std::min(text.find_first_not_of('0'), text.size() - 1));
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text.empty() || text[0] == '.' ? "0" + text : text;
}

void Extreme(Random& random, Draft& draft, bool largest) {
  const int64_t count = random.In(3, 6), digits = random.In(2, count > 4 ? 3 : 4);
  const bool decimals = random.Below(3) == 0;
  const std::vector<std::string> numbers = DifferentNumbers(random, count, digits, decimals);
  draft.question = Say(random,
                       {"Which is the {0} of {1}?", "What is the {0} number: {2}?", "Find the {0} of {1}.",
                        "Which of these numbers is the {0}: {2}?", "Give the {3} of the list {2}.",
                        "{4} writes down {1}. Which number is the {0}?"},
                       largest ? "largest" : "smallest", JoinAnd(numbers), JoinWith(numbers, ", "),
                       largest ? "maximum" : "minimum", random.Pick(Names()));
  Trace trace(draft.thinking);
  const std::vector<std::string> padded = PadNumbers(numbers);
  trace.Line("{}", JoinWith(padded, " "));
  draft.answer = Unpadded(padded[trace.Best(padded, largest)]);
  draft.choices = static_cast<int>(count);
}
void Largest(Random& random, Draft& draft) { Extreme(random, draft, true); }
void Smallest(Random& random, Draft& draft) { Extreme(random, draft, false); }

void OfTwo(Random& random, Draft& draft) {
  const bool larger = random.Coin(), decimals = random.Coin();
  const std::vector<std::string> numbers = DifferentNumbers(random, 2, random.In(2, 5), decimals);
  const std::string_view first = Names()[static_cast<size_t>(random.Below(10))];
  const std::string_view second = Names()[static_cast<size_t>(random.In(10, 19))];
  draft.question =
      Say(random,
          {"Which is {0}, {1} or {2}?", "Which number is {0}: {1} or {2}?", "Of {1} and {2}, which is the {0} number?",
           "{3} has {1} and {4} has {2}. Which amount is {0}?", "Compare {1} and {2}. Which is {0}?"},
          larger ? "larger" : "smaller", numbers[0], numbers[1], first, second);
  Trace trace(draft.thinking);
  const std::vector<std::string> padded = PadNumbers(numbers);
  draft.answer = Unpadded(padded[trace.Best(padded, larger)]);
  draft.choices = 2;
}

void SecondLargest(Random& random, Draft& draft) {
  const int64_t count = random.In(3, 4);
  const std::vector<std::string> numbers = DifferentNumbers(random, count, random.In(2, 3), false);
  draft.question = Say(random,
                       {"Which is the second largest of {0}?", "What is the second largest number: {1}?",
                        "Find the second largest of {0}.", "{2} writes down {0}. Which number is the second largest?"},
                       JoinAnd(numbers), JoinWith(numbers, ", "), random.Pick(Names()));
  Trace trace(draft.thinking);
  std::vector<std::string> padded = PadNumbers(numbers);
  trace.Line("{}", JoinWith(padded, " "));
  padded.erase(padded.begin() + static_cast<std::ptrdiff_t>(trace.Best(padded, true)));
  trace.Line("{}", JoinWith(padded, " "));
  draft.answer = Unpadded(padded[trace.Best(padded, true)]);
  draft.choices = static_cast<int>(count);
}

/// Takes the next in order from the rest, line by line: "045 | 310 450 120".
std::vector<std::string> TakeInOrder(Trace& trace, std::vector<std::string> rest, bool ascending) {
  std::vector<std::string> taken;
  trace.Line("{}", JoinWith(rest, " "));
  while (!rest.empty()) {
    const auto next =
        ascending ? std::min_element(rest.begin(), rest.end()) : std::max_element(rest.begin(), rest.end());
    taken.push_back(*next);
    rest.erase(next);
    trace.Line("{}", taken.back());
    if (!rest.empty()) trace.Append(" | " + JoinWith(rest, " "));
  }
  return taken;
}

void SortNumbers(Random& random, Draft& draft) {
  const int64_t count = random.In(3, 6);
  const bool ascending = random.Below(3) != 0;
  const std::vector<std::string> numbers = DifferentNumbers(random, count, count > 4 ? 2 : random.In(2, 3), false);
  draft.question = ascending
                       ? Say(random,
                             {"Sort {0} in ascending order.", "Sort these numbers from smallest to largest: {1}.",
                              "Put {0} in order, smallest first.", "Order the list {1} from low to high.",
                              "Arrange {0} from smallest to largest."},
                             JoinAnd(numbers), JoinWith(numbers, ", "))
                       : Say(random,
                             {"Sort {0} in descending order.", "Sort these numbers from largest to smallest: {1}.",
                              "Put {0} in order, largest first.", "Order the list {1} from high to low.",
                              "Arrange {0} from largest to smallest."},
                             JoinAnd(numbers), JoinWith(numbers, ", "));
  Trace trace(draft.thinking);
  std::vector<std::string> sorted = TakeInOrder(trace, PadNumbers(numbers), ascending);
  for (std::string& number : sorted) number = Unpadded(std::move(number));
  draft.answer = JoinWith(sorted, ", ");
}

void SortWords(Random& random, Draft& draft) {
  const size_t count = static_cast<size_t>(random.In(3, 5));
  std::vector<std::string> words, keyed;
  while (words.size() < count) {
    const std::string word(random.Pick(ListWords()));
    const std::string key = fmt::format("{} {} {}", word[0], word[1], word);
    const auto same = [&](const std::string& other) { return other.substr(0, 3) == key.substr(0, 3); };
    if (std::find_if(keyed.begin(), keyed.end(), same) != keyed.end()) continue;  // two letters decide
    words.push_back(word);
    keyed.push_back(key);
  }
  draft.question =
      Say(random,
          {"Sort these words alphabetically: {1}.", "Put {0} in alphabetical order.", "Sort {0} from a to z.",
           "Order the words {1} by the alphabet.", "How do {0} stand in a dictionary, in order?"},
          JoinAnd(words), JoinWith(words, ", "));
  Trace trace(draft.thinking);
  std::vector<std::string> sorted = TakeInOrder(trace, keyed, true);
  for (std::string& word : sorted) word.erase(0, 4);
  draft.answer = JoinWith(sorted, ", ");
}

constexpr Kind kComparison[] = {
    {"largest", Largest}, {"smallest", Smallest}, {"of_two", OfTwo}, {"second_largest", SecondLargest}};
constexpr Kind kSorting[] = {{"numbers", SortNumbers}, {"words", SortWords}};

}  // namespace

std::span<const Kind> ComparisonKinds() { return kComparison; }
std::span<const Kind> SortingKinds() { return kSorting; }

}  // namespace fathom
