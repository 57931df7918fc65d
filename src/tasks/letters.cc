// Counting (letters, words, items) and strings (reversed, single letters, letters left out, capitals, initials).
//
// A tokeniser hides the letters of a word, so every solution spells first; letters in answers stand apart, too.
#include <algorithm>
#include <vector>

#include "tasks/draft.h"
#include "tasks/trace.h"
#include "tasks/words.h"

namespace fathom {
namespace {

std::string Word(Random& random) { return std::string(random.Pick(Words())); }

/// Words for lists that differ from each other.
std::vector<std::string> DifferentWords(Random& random, int64_t count) {
  std::vector<std::string> words;
  while (static_cast<int64_t>(words.size()) < count) {
    std::string word(random.Pick(ListWords()));
    if (std::find(words.begin(), words.end(), word) == words.end()) words.push_back(std::move(word));
  }
  return words;
}

/// One word or two, with a space between.
std::string Phrase(Random& random) {
  const std::string first = Word(random);
  return random.Below(3) == 0 ? first : first + " " + Word(random);
}

std::string Named(const std::string& phrase) {
  return (phrase.find(' ') == std::string::npos ? "the word " : "the words ") + phrase;
}

std::string Letters(std::string_view phrase) {
  std::string letters(phrase);
  std::erase(letters, ' ');
  return letters;
}

std::string Spaced(std::string_view letters) {
  std::string text;
  for (const char c : letters) {
    if (!text.empty()) text += ' ';
    text += c;
  }
  return text;
}

/// "spell: p1 l2 a3": the letters that `counts` accepts, counted while spelling.
template <typename Counts>
int CountLetters(Trace& trace, std::string_view title, std::string_view phrase, Counts counts) {
  int count = 0;
  std::string line;
  for (const char c : Letters(phrase)) {
    count += counts(c) ? 1 : 0;
    line += fmt::format(" {}{}", c, count);
  }
  trace.Line("{}:{}", title, line);
  return count;
}

void LetterCount(Random& random, Draft& draft) {
  const std::string phrase = Phrase(random);
  draft.question = Say(random,
                       {"How many letters are in {0}?", "Count the letters of {0}.", "How many letters {2} {0} have?",
                        "{1} writes {0}. How many letters is that?"},
                       Named(phrase), random.Pick(Names()), phrase.find(' ') == std::string::npos ? "does" : "do");
  Trace trace(draft.thinking);
  draft.answer = std::to_string(CountLetters(trace, "spell", phrase, [](char) { return true; }));
}

void LetterOccurrences(Random& random, Draft& draft) {
  const std::string phrase = Phrase(random);
  const std::string letters = Letters(phrase);
  const char letter = random.Below(6) == 0 ? static_cast<char>('a' + random.Below(26)) : random.Pick(letters);
  draft.question = Say(random,
                       {"How many times does the letter {0} occur in {1}?", "How often is the letter {0} in {1}?",
                        "Count the letter {0} in {1}.", "How many {0}'s are there in {1}?"},
                       letter, Named(phrase));
  Trace trace(draft.thinking);
  draft.answer =
      std::to_string(CountLetters(trace, fmt::format("find {}", letter), phrase, [=](char c) { return c == letter; }));
}

void Vowels(Random& random, Draft& draft) {
  const std::string phrase = Phrase(random);
  draft.question = Say(random,
                       {"How many vowels (a, e, i, o, u) are in {0}?", "Count the vowels a, e, i, o, u in {0}.",
                        "How many of the letters of {0} are vowels (a, e, i, o, u)?",
                        "{1} writes {0}. How many vowels (a, e, i, o, u) is that?"},
                       Named(phrase), random.Pick(Names()));
  Trace trace(draft.thinking);
  draft.answer = std::to_string(CountLetters(
      trace, "vowels", phrase, [](char c) { return std::string_view("aeiou").find(c) != std::string_view::npos; }));
}

/// "1 red 2 apple 3 stone".
void Number(Trace& trace, std::span<const std::string> items) {
  std::string line;
  for (size_t i = 0; i < items.size(); ++i) line += fmt::format("{}{} {}", i > 0 ? " " : "", i + 1, items[i]);
  trace.Line("{}", line);
}

constexpr std::string_view kWho[] = {"dog",    "cat",    "king", "girl", "boy",
                                     "farmer", "doctor", "lion", "bird", "teacher"};
constexpr std::string_view kHow[] = {"old", "young", "happy", "small", "big", "quiet", "strong", "slow"};
constexpr std::string_view kDid[] = {"saw", "found", "lost", "liked", "painted", "carried", "wanted", "sold"};
constexpr std::string_view kWhat[] = {"apple", "book", "hat", "lamp", "boat", "drum", "box", "ring", "kite", "chair"};
constexpr std::string_view kWhere[] = {"in the garden",        "near the river", "at home",
                                       "behind the old house", "on the road",    "under a tree"};
constexpr std::string_view kWhen[] = {"yesterday", "in the morning", "last summer", "every day", "on a cold day"};

std::string Sentence(Random& random) {
  const auto noun = [&](const auto& nouns) {
    const std::string_view what = random.Pick(nouns);
    return random.Coin() ? fmt::format("the {} {}", random.Pick(kHow), what) : fmt::format("the {}", what);
  };
  std::string text = noun(kWho);
  text += fmt::format(" {} ", random.Pick(kDid));
  text += noun(kWhat);
  if (random.Coin()) text += fmt::format(" {}", random.Pick(kWhere));
  if (random.Coin()) text += fmt::format(" {}", random.Pick(kWhen));
  return text;
}

std::vector<std::string> SplitWords(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == ' ') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  return words;
}

void WordCount(Random& random, Draft& draft) {
  const std::string sentence = Sentence(random);
  draft.question = Say(random,
                       {"How many words are in this sentence: {0}?", "Count the words: {0}.",
                        "How many words does this sentence have: {0}?", "{1} says: {0}. How many words is that?"},
                       sentence, random.Pick(Names()));
  Trace trace(draft.thinking);
  const std::vector<std::string> words = SplitWords(sentence);
  Number(trace, words);
  draft.answer = std::to_string(words.size());
}

void ListCount(Random& random, Draft& draft) {
  const std::vector<std::string> items = DifferentWords(random, random.In(3, 10));
  draft.question =
      Say(random,
          {"How many items are in the list {0}?", "Count the items: {0}.", "How many words does the list {0} have?",
           "{1} buys these things: {0}. How many things is that?"},
          JoinWith(items, ", "), random.Pick(Names()));
  Trace trace(draft.thinking);
  Number(trace, items);
  draft.answer = std::to_string(items.size());
}

void ItemOccurrences(Random& random, Draft& draft) {
  const std::vector<std::string> kinds = DifferentWords(random, random.In(2, 4));
  const int64_t count = random.In(5, 10);
  std::vector<std::string> items;
  for (int64_t i = 0; i < count; ++i) items.push_back(random.Pick(kinds));
  const std::string& wanted = random.Pick(kinds);
  draft.question = Say(random,
                       {"How many times does {0} occur in {1}?", "How often is {0} in the list {1}?",
                        "Count how many times the word {0} stands in {1}.",
                        "{2} sees, one after the other: {1}. How many times is it {0}?"},
                       wanted, JoinWith(items, ", "), random.Pick(Names()));
  Trace trace(draft.thinking);
  std::string line;
  int found = 0;
  for (const std::string& item : items) {
    found += item == wanted ? 1 : 0;
    line += fmt::format(" {} {}", item, found);
  }
  trace.Line("find {}:{}", wanted, line);
  draft.answer = std::to_string(found);
}

void Reverse(Random& random, Draft& draft) {
  const std::string phrase = Phrase(random);
  draft.question = Say(
      random,
      {"Spell {0} backwards, letter by letter.", "Write the letters of {0} in reverse order.",
       "What are the letters of {0} from last to first?", "Spell {0} from the end, with spaces between the letters.",
       "{1} spells {0} backwards. Which letters are that?"},
      Named(phrase), random.Pick(Names()));
  Trace trace(draft.thinking);
  std::string letters = Letters(phrase);
  CountLetters(trace, "spell", phrase, [](char) { return true; });
  std::string line;
  for (size_t i = letters.size(); i > 0; --i)
    line += fmt::format("{}{} {}", line.empty() ? "" : " ", i, letters[i - 1]);
  trace.Line("{}", line);
  std::reverse(letters.begin(), letters.end());
  draft.answer = Spaced(letters);
}

std::string Ordinal(size_t n) { return std::to_string(n) + (n == 1 ? "st" : n == 2 ? "nd" : n == 3 ? "rd" : "th"); }

void NthLetter(Random& random, Draft& draft) {
  const std::string word = Word(random);
  const size_t n = static_cast<size_t>(random.In(1, static_cast<int64_t>(word.size())));
  draft.question = Say(random,
                       {"What is the {0} letter of the word {1}?", "Which letter is the {0} in the word {1}?",
                        "Give the {0} letter of {1}.", "In the word {1}, which letter stands in place {2}?",
                        "{3} writes the word {1}. What is the {0} letter?"},
                       Ordinal(n), word, n, random.Pick(Names()));
  Trace trace(draft.thinking);
  CountLetters(trace, "spell", word.substr(0, n), [](char) { return true; });
  draft.answer = word.substr(n - 1, 1);
  draft.choices = static_cast<int>(word.size());
}

void RemoveLetter(Random& random, Draft& draft) {
  const std::string phrase = Phrase(random);
  std::string letters = Letters(phrase);
  const char letter = random.Pick(letters);
  draft.question =
      Say(random,
          {"Remove every letter {0} from {1} and spell what is left.", "Spell {1} without the letter {0}.",
           "Which letters of {1} are left without the letter {0}?", "Take the letter {0} out of {1}. Spell the rest."},
          letter, Named(phrase));
  Trace trace(draft.thinking);
  trace.Line("spell: {}", Spaced(letters));
  std::erase(letters, letter);
  draft.answer = Spaced(letters);
}

void Capitals(Random& random, Draft& draft) {
  const std::string phrase = Phrase(random);
  draft.question = Say(random,
                       {"Spell {0} in capital letters.", "Write the letters of {0} in upper case, one by one.",
                        "Spell {0} with upper case letters only.", "{1} spells {0} in capitals. What is that?"},
                       Named(phrase), random.Pick(Names()));
  Trace trace(draft.thinking);
  std::string letters = Letters(phrase);
  trace.Line("spell: {}", Spaced(letters));
  for (char& c : letters) c = static_cast<char>(c - 'a' + 'A');
  draft.answer = Spaced(letters);
}

void Initials(Random& random, Draft& draft) {
  const std::vector<std::string> words = DifferentWords(random, random.In(3, 6));
  const bool last = random.Below(3) == 0;
  draft.question = Say(random,
                       {"What are the {0} letters of {1}?", "Give the {0} letter of each word: {1}.",
                        "Take the {0} letter of each of {1}.", "Which letters do the words {1} {2} with?"},
                       last ? "last" : "first", JoinWith(words, ", "), last ? "end" : "begin");
  Trace trace(draft.thinking);
  std::string letters, line;
  for (size_t i = 0; i < words.size(); ++i) {
    letters += last ? words[i].back() : words[i].front();
    const std::string spelled = last ? " " + Spaced(words[i]) : "";
    line += fmt::format("{}{} {}{}: {}", i > 0 ? " " : "", i + 1, words[i], spelled, letters.back());
  }
  trace.Line("{}", line);
  draft.answer = Spaced(letters);
}

void ReverseWords(Random& random, Draft& draft) {
  std::vector<std::string> words = DifferentWords(random, random.In(3, 7));
  draft.question =
      Say(random,
          {"Reverse the order of the words: {0}.", "Write these words in reverse order: {0}.",
           "Say the list {0} backwards, last word first.", "{1} reads the list {0} from the end. What is read?"},
          JoinWith(words, ", "), random.Pick(Names()));
  Trace trace(draft.thinking);
  Number(trace, words);
  std::string line;
  for (size_t i = words.size(); i > 0; --i) line += fmt::format("{}{} {}", line.empty() ? "" : " ", i, words[i - 1]);
  trace.Line("{}", line);
  std::reverse(words.begin(), words.end());
  draft.answer = JoinWith(words, ", ");
}

constexpr Kind kCounting[] = {{"letters", LetterCount}, {"letter_occurrences", LetterOccurrences},
                              {"vowels", Vowels},       {"words", WordCount},
                              {"items", ListCount},     {"item_occurrences", ItemOccurrences}};
constexpr Kind kStrings[] = {{"reverse", Reverse},   {"nth_letter", NthLetter}, {"remove_letter", RemoveLetter},
                             {"capitals", Capitals}, {"initials", Initials},    {"reverse_words", ReverseWords}};

}  // namespace

std::span<const Kind> CountingKinds() { return kCounting; }
std::span<const Kind> StringKinds() { return kStrings; }

}  // namespace fathom
