// Every answer is worked out a second time, from the question's text alone: words, letters, logic and rules. Numbers
// are in verify_numbers_test.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "tasks/problem.h"
#include "tasks/reading_for_test.h"

namespace fathom {
namespace {

/// REQUIRES: `text` outlives the match.
std::smatch Find(const std::string& text, const std::regex& pattern) {
  std::smatch match;
  EXPECT_TRUE(std::regex_search(text, match, pattern)) << text;
  return match;
}
std::smatch Find(std::string&& text, const std::regex& pattern) = delete;

std::string Join(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return text;
}

std::string Spaced(const std::string& letters) {
  std::string text;
  for (const char c : letters) text += text.empty() ? std::string(1, c) : std::string(" ") + c;
  return text;
}

/// The letters of "the word x" or "the words x y"; of the last word if neither is there.
std::string SpelledLetters(const std::string& question) {
  static const std::regex kOne("the word ([a-z]+)"), kTwo("the words ([a-z]+) ([a-z]+)"), kLast("([a-z]+)[.?]$");
  std::smatch match;
  if (std::regex_search(question, match, kTwo)) return match[1].str() + match[2].str();
  if (std::regex_search(question, match, kOne)) return match[1];
  return Find(question, kLast)[1];
}

std::string SortedWords(const Problem& p) {
  if (p.kind != "words") return p.answer;
  std::vector<std::string> words = ListIn(p.question);
  std::sort(words.begin(), words.end());
  return Join(words);
}

std::string Counting(const Problem& p) {
  const std::string& q = p.question;
  static const std::regex kLetter("letter ([a-z])\\b|many ([a-z])'s"), kSentence(": ([a-z ]+)[.?]");
  static const std::regex kWanted(
      "does ([a-z]+) occur|often is ([a-z]+) in|the word ([a-z]+) stands|is it ([a-z]+)\\?");
  if (p.kind == "items") return std::to_string(ListIn(q).size());
  if (p.kind == "words") {
    const std::string sentence = Find(q, kSentence)[1];
    return std::to_string(1 + std::count(sentence.begin(), sentence.end(), ' '));
  }
  if (p.kind == "item_occurrences") {
    const std::smatch match = Find(q, kWanted);
    const std::string wanted = match[1].str() + match[2].str() + match[3].str() + match[4].str();
    const std::vector<std::string> items = ListIn(q);
    return std::to_string(std::count(items.begin(), items.end(), wanted));
  }
  const std::string letters = SpelledLetters(q);
  if (p.kind == "letters") return std::to_string(letters.size());
  std::string wanted = "aeiou";
  if (p.kind == "letter_occurrences") {
    const std::smatch match = Find(q, kLetter);
    wanted = match[1].str() + match[2].str();
  }
  return std::to_string(
      std::count_if(letters.begin(), letters.end(), [&](char c) { return wanted.find(c) != std::string::npos; }));
}

std::string Strings(const Problem& p) {
  const std::string& q = p.question;
  if (p.kind == "reverse_words" || p.kind == "initials") {
    std::vector<std::string> words = ListIn(q);
    if (p.kind == "reverse_words") {
      std::reverse(words.begin(), words.end());
      return Join(words);
    }
    const bool last = q.find("last") != std::string::npos || q.find(" end with") != std::string::npos;
    std::string letters;
    for (const std::string& word : words) letters += last ? word.back() : word.front();
    return Spaced(letters);
  }
  std::string letters = SpelledLetters(q);
  if (p.kind == "reverse") return Spaced({letters.rbegin(), letters.rend()});
  if (p.kind == "nth_letter") return letters.substr(static_cast<size_t>(NumbersIn(q).at(0)) - 1, 1);
  if (p.kind == "remove_letter") {
    static const std::regex kLetter("letter ([a-z])\\b");
    std::erase(letters, Find(q, kLetter)[1].str()[0]);
    return Spaced(letters);
  }
  for (char& c : letters) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return Spaced(letters);
}

// --- logic ----------------------------------------------------------------------------------------------------------

/// not binds before and and or; the generator writes brackets wherever and and or meet.
class TruthReader {
 public:
  explicit TruthReader(const std::string& text) {
    static const std::regex kToken("[a-z]+|[()]");
    for (std::sregex_iterator it(text.begin(), text.end(), kToken), end; it != end; ++it) tokens_.push_back(it->str());
  }
  bool Read() {
    bool value = Operand();
    while (at_ < tokens_.size() && (tokens_[at_] == "and" || tokens_[at_] == "or")) {
      const bool both = tokens_[at_++] == "and", right = Operand();
      value = both ? value && right : value || right;
    }
    return value;
  }

 private:
  bool Operand() {
    const std::string token = tokens_.at(at_++);
    if (token == "not") return !Operand();
    if (token != "(") return token == "true";
    const bool value = Read();
    ++at_;
    return value;
  }
  std::vector<std::string> tokens_;
  size_t at_ = 0;
};

using Edges = std::map<std::string, std::set<std::string>>;

bool Reaches(const Edges& edges, const std::string& from, const std::string& to) {
  std::set<std::string> seen = {from};
  std::vector<std::string> open = {from};
  while (!open.empty()) {
    const std::string at = open.back();
    open.pop_back();
    const auto found = edges.find(at);
    if (found == edges.end()) continue;
    for (const std::string& next : found->second) {
      if (seen.insert(next).second) open.push_back(next);
    }
  }
  return seen.contains(to);
}

std::string Logic(const Problem& p) {
  const std::string& q = p.question;
  if (p.kind == "boolean") {
    static const std::regex kTruth("(?:false: |Evaluate: |value of |says: )([a-z() ]+)");
    return TruthReader(Find(q, kTruth)[1]).Read() ? "true" : "false";
  }
  Edges edges;
  if (p.kind == "chain") {
    static const std::regex kPair("([A-Z][a-z]+) is ([a-z]+) than ([A-Z][a-z]+)\\.");
    static const std::set<std::string> kMore = {"taller", "older", "faster", "richer"};
    std::set<std::string> people;
    for (std::sregex_iterator it(q.begin(), q.end(), kPair), end; it != end; ++it) {
      const bool more = kMore.contains((*it)[2]);
      edges[(*it)[more ? 1 : 3]].insert((*it)[more ? 3 : 1]);
      people.insert((*it)[1]);
      people.insert((*it)[3]);
    }
    // A person's rank is how many stand above.
    std::map<size_t, std::string> ranks;
    for (const std::string& a : people) {
      ranks[static_cast<size_t>(std::count_if(
          people.begin(), people.end(), [&](const std::string& b) { return a != b && Reaches(edges, b, a); }))] = a;
    }
    EXPECT_EQ(ranks.size(), people.size()) << q;
    if (q.find("second") != std::string::npos) return ranks[1];
    static const std::regex kMost("tallest|oldest|fastest|richest");
    return std::regex_search(q, kMost) ? ranks.begin()->second : ranks.rbegin()->second;
  }
  std::string from, to;
  if (p.kind == "syllogism") {
    static const std::regex kRule("All ([a-z]+) are ([a-z]+)\\."), kMadeUp("[a-z]+");
    std::set<std::string> nouns;
    for (std::sregex_iterator it(q.begin(), q.end(), kRule), end; it != end; ++it) {
      edges[(*it)[1]].insert((*it)[2]);
      nouns.insert((*it)[1]);
      nouns.insert((*it)[2]);
    }
    const std::string asked = q.substr(q.rfind(". "));
    static const std::regex kAsked(
        "(?:all|every one of the|certain that) ([a-z]+) (?:be|are|is one of the) ([a-z]+)\\?");
    const std::smatch match = Find(asked, kAsked);
    from = match[1], to = match[2];
  } else {
    static const std::regex kRule("If the ([a-z]+) [a-z]+ is [a-z]+, the ([a-z]+) ");
    static const std::regex kFact("(?:The|Now the) ([a-z]+) [a-z]+ is"),
        kAsked("the ([a-z]+) [a-z]+ (?:must )?be |that the ([a-z]+) ");
    for (std::sregex_iterator it(q.begin(), q.end(), kRule), end; it != end; ++it) edges[(*it)[1]].insert((*it)[2]);
    from = Find(q, kFact)[1];
    const std::string asked = q.substr(q.rfind(". "));  // outlives the match, which points into it
    const std::smatch match = Find(asked, kAsked);
    to = match[1].str() + match[2].str();
  }
  return Reaches(edges, from, to) ? "yes" : "no";
}

// --- eligibility ----------------------------------------------------------------------------------------------------

std::string Eligibility(const Problem& p) {
  const std::string& q = p.question;
  const std::vector<double> n = NumbersIn(q);
  if (p.kind == "conditions") {
    bool eligible = n.at(2) >= n.at(0) && n.at(3) < n.at(1);
    static const std::regex kTown("(?:live in|persons from) ([A-Z][a-z]+)"),
        kHome("(?:lives in|[A-Z][a-z]+ from) ([A-Z][a-z]+)");
    std::smatch town, home;
    if (std::regex_search(q, town, kTown)) eligible = eligible && Find(q, kHome)[1] == town[1];
    return eligible ? "yes" : "no";
  }
  if (p.kind == "deadline") {
    static const std::regex kDays("([0-9]+) days"), kDate("[A-Z][a-z]+ ([0-9]+)");
    const double days = std::stod(Find(q, kDays)[1]);
    std::vector<double> dates;
    for (std::sregex_iterator it(q.begin(), q.end(), kDate), end; it != end; ++it) dates.push_back(std::stod((*it)[1]));
    return dates.at(1) - dates.at(0) <= days ? "yes" : "no";
  }
  if (p.kind == "notice") {
    // Weeks and limits in the order of each wording.
    const bool below = q.find("below") != std::string::npos;
    const double years = n.back();
    if (below) return Text(years < n[0] ? n[1] : years < n[2] ? n[3] : n[4]);
    if (n.size() == 8) return Text(years < n[1] ? n[0] : years < n[4] ? n[2] : n[5]);
    return Text(years < n[1] ? n[0] : years < n[3] ? n[2] : n[4]);
  }
  static const std::regex kDate("(?:January|March|May|July|August|October|December) ([0-9]+)");
  static const std::regex kRate("costs? ([0-9]+)"), kFree("first ([0-9]+) late"), kCap("at most ([0-9]+)");
  std::vector<double> dates;
  for (std::sregex_iterator it(q.begin(), q.end(), kDate), end; it != end; ++it) dates.push_back(std::stod((*it)[1]));
  double days = dates.at(1) - dates.at(0);
  std::smatch match;
  if (std::regex_search(q, match, kFree)) days -= std::stod(match[1]);
  double fine = days * std::stod(Find(q, kRate)[1]);
  if (std::regex_search(q, match, kCap)) fine = std::min(fine, std::stod(match[1]));
  return Text(fine);
}

TEST(VerifyWords, AnswersAreRight) {
  const std::map<std::string, std::string (*)(const Problem&)> solvers = {{"sorting", SortedWords},
                                                                          {"counting", Counting},
                                                                          {"strings", Strings},
                                                                          {"logic", Logic},
                                                                          {"eligibility", Eligibility}};
  for (const auto& [family, solve] : solvers) {
    const std::vector<std::string> families = {family};
    auto generator = TaskGenerator::Create(33, Split::kTrain, families);
    ASSERT_TRUE(generator.has_value());
    for (int i = 0; i < 4000; ++i) {
      const Problem p = generator->Next();
      ASSERT_EQ(solve(p), p.answer) << p.question << "\n" << p.thinking;
    }
  }
}

// A trace of letters must spell the word that the question names, or the model learns to misspell.
TEST(VerifyWords, SpellingsAreRight) {
  const std::vector<std::string> families = {"counting", "strings"};
  auto generator = TaskGenerator::Create(34, Split::kTrain, families);
  ASSERT_TRUE(generator.has_value());
  int checked = 0;
  for (int i = 0; i < 10'000; ++i) {
    const Problem p = generator->Next();
    std::string first = p.thinking.substr(0, p.thinking.find('\n'));
    if (!first.starts_with("spell:") && !first.starts_with("vowels:") && p.kind != "letter_occurrences") continue;
    first.erase(0, first.find(':'));
    std::erase_if(first, [](char c) { return c < 'a' || c > 'z'; });
    const std::string letters = SpelledLetters(p.question);
    if (p.kind == "nth_letter") {
      ASSERT_TRUE(letters.starts_with(first)) << p.question;
    } else {
      ASSERT_EQ(first, letters) << p.question;
    }
    ++checked;
  }
  EXPECT_GT(checked, 5000);
}

}  // namespace
}  // namespace fathom
