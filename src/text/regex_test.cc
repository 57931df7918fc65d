#include "text/regex.h"

#include <gtest/gtest.h>


#include "text/text_test_data.h"
#include "text/unicode.h"

namespace fathom {
namespace {

using Matches = std::vector<std::pair<size_t, size_t>>;

Matches Find(const SplitRegex& regex, std::string_view text) {
  Matches out;
  regex.FindAll(text, [&](size_t begin, size_t end) { out.emplace_back(begin, end); });
  return out;
}

std::vector<std::string> Texts(std::string_view pattern, std::string_view text,
                               RegexEngine engine = RegexEngine::kAuto) {
  auto regex = SplitRegex::Compile(pattern, engine);
  EXPECT_TRUE(regex.has_value()) << (regex ? "" : regex.error().message);
  std::vector<std::string> out;
  const auto take = [&](size_t begin, size_t end) { out.emplace_back(text.substr(begin, end - begin)); };
  if (regex) (*regex)->FindAll(text, take);
  return out;
}

using Strings = std::vector<std::string>;

// Patterns of published tokenisers, and shapes that exercise each part of the program engine.
const char* const kPatterns[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?)"
    R"(|\p{N}{1,3}|\s+)",
    R"(\s?\p{L}+)", R"(\s?\p{P}+)", R"(\s+$)", "[\r\n]", R"([0-9][0-9][0-9])", R"([\p{P}\$\+<=>\^~\|]+)",
    "(?:ab|a)(?:bc|c)?", "(?:a|b)+c", "(?:a|b){2,3}", "a{0}b", "x{2,}", R"(^\w+)", R"(\d+(?=\.))", "(?=l)", "a|b|",
    R"(\S+)", R"([^aeiou]+)", "(?:the|world) (?:world|the)", R"(\w+(?!\w))", R"([\x{4E00}-\x{9FA5}]+)", ".",
    R"(\p{^L}+)",
};

TEST(SplitRegex, BothEnginesAgree) {
  for (const char* pattern : kPatterns) {
    auto program = SplitRegex::Compile(pattern, RegexEngine::kProgram);
    auto pcre = SplitRegex::Compile(pattern, RegexEngine::kPcre2);
    ASSERT_TRUE(program.has_value()) << pattern << ": " << program.error().message;
    ASSERT_TRUE(pcre.has_value()) << pattern << ": " << pcre.error().message;
    EXPECT_EQ((*program)->engine(), RegexEngine::kProgram);
    EXPECT_EQ((*pcre)->engine(), RegexEngine::kPcre2);
    RandomForTest random(7);
    for (int i = 0; i < 1500; ++i) {
      const std::string text = RandomTextForTest(random, i % 3 == 0);
      ASSERT_EQ(Find(**program, text), Find(**pcre, text)) << pattern << "\n" << text;
    }
  }
}

TEST(SplitRegex, MeansWhatOnigurumaMeans) {
  EXPECT_EQ(Texts(R"(\s+)", "a\u180e b\u0085\u2003c"), (Strings{" ", "\u0085\u2003"}));
  EXPECT_EQ(Texts(R"(\s+)", "a\u180e b\u0085\u2003c", RegexEngine::kPcre2), (Strings{" ", "\u0085\u2003"}));
  EXPECT_EQ(Texts(R"(\h+)", "zFACEz x1"), (Strings{"FACE", "1"})) << "Ruby's \\h is a hexadecimal digit";
  EXPECT_EQ(Texts(R"(a$)", "a\na"), (Strings{"a", "a"})) << "$ is before every newline";
  EXPECT_EQ(Texts(R"([\p{L}&&[^\p{Han}]]+)", "ab中c"), (Strings{"ab", "c"}));
  EXPECT_EQ(Texts(R"([a[0-9]]+)", "a1b2"), (Strings{"a1", "2"}));
  EXPECT_EQ(Texts("(?i:'s|k)", "'ſ'S\u212a"), (Strings{"'ſ", "'S", "\u212a"}));
  EXPECT_EQ(Texts("a{,2}", "aaa"), (Strings{"aa", "a"}));
  EXPECT_EQ(Texts("a{x}", "a{x}"), (Strings{"a{x}"})) << "a brace that begins no quantifier";
  EXPECT_EQ(Texts("[]a]+", "]a"), (Strings{"]a"}));
  EXPECT_EQ(Texts(R"(\x{1F600}|\u00e9)", "é😀"), (Strings{"é", "😀"}));
  EXPECT_EQ(Texts(R"([[:punct:]]+)", "a$+b"), (Strings{"$+"}));
  EXPECT_EQ(Texts(R"(\p{L}++)", "ab c"), (Strings{"ab", "c"}));
  EXPECT_EQ(Texts(R"(\uFFFD)", "\xff"), (Strings{"\xff"})) << "a broken byte is as U+FFFD";
  EXPECT_EQ(Texts(EscapeRegex("a.b*[c]{2}(|)^$?+\\-"), "xa.b*[c]{2}(|)^$?+\\-x"), (Strings{"a.b*[c]{2}(|)^$?+\\-"}));
}

TEST(SplitRegex, Anchors) {
  EXPECT_EQ(Texts(R"(\bt\w*\b)", "the tot, att t"), (Strings{"the", "tot", "t"}));
  EXPECT_EQ(Texts(R"(\Bt)", "the tot"), (Strings{"t"}));
  EXPECT_EQ(Texts(R"(\Aa|a\z)", "aaa"), (Strings{"a", "a"}));
  EXPECT_EQ(Texts(R"(a\Z)", "a\na\n"), (Strings{"a"}));
  EXPECT_EQ(Texts(R"(^a)", "a\na\n"), (Strings{"a", "a"}));
}

TEST(SplitRegex, GivesEmptyMatchesOnceEach) {
  auto regex = SplitRegex::Compile("(?=l)");
  ASSERT_TRUE(regex.has_value());
  EXPECT_EQ(Find(**regex, "hello"), (Matches{{2, 2}, {3, 3}}));
  auto star = SplitRegex::Compile("x*");
  ASSERT_TRUE(star.has_value());
  EXPECT_EQ(Find(**star, "axb"), (Matches{{0, 0}, {1, 2}, {3, 3}}));
}

TEST(SplitRegex, LeavesTheRestToPcre2) {
  for (const char* pattern : {"a+?b", "(?<=x)y", "(a)\\1", "(?>ab|a)b", "(?:a?)+b", "(?<name>a)"}) {
    auto regex = SplitRegex::Compile(pattern);
    ASSERT_TRUE(regex.has_value()) << pattern << " " << regex.error().message;
    EXPECT_EQ((*regex)->engine(), RegexEngine::kPcre2) << pattern;
  }
  EXPECT_EQ(Texts("(?<=x)y", "xyy"), (Strings{"y"}));
  EXPECT_EQ(Texts("(?<=é)\xc3\xa9?", "é\xff" "ééa"), (Strings{"", "é"})) << "broken bytes before the match";
}

TEST(SplitRegex, RefusesMalformedPatterns) {
  for (const char* pattern : {"(", "a)", "[", "[a", "*a", "\\", "\\p{L", "(?", "[z-a]", "\\p{Nonsense}", "(?P<a",
                              "\xff", "\\x{110000}", "(?<=a+)b"}) {
    EXPECT_FALSE(SplitRegex::Compile(pattern).has_value()) << pattern;
  }
  EXPECT_TRUE(SplitRegex::Compile("a{2}{").has_value());
  EXPECT_FALSE(SplitRegex::Compile(std::string(100000, 'a')).has_value());
  EXPECT_FALSE(SplitRegex::Compile(std::string(50000, '(')).has_value());
  EXPECT_FALSE(SplitRegex::Compile(std::string(50000, '[')).has_value());
  EXPECT_TRUE(SplitRegex::Compile("(?:(?:(?:ab){0}){100000}){100000}").has_value()) << "and at once";
  std::string many;
  for (uint32_t c = 0x4E00; c < 0x4E00 + 5000; ++c) AppendUtf8(c, many);
  auto literal = SplitRegex::Compile(many);
  ASSERT_TRUE(literal.has_value());
  EXPECT_EQ((*literal)->engine(), RegexEngine::kPcre2) << "no table for each of very many classes";
}

// No clock here: what these guard against takes hours to for ever, so the test runner's time limit tells.
TEST(SplitRegex, DoesNotExplode) {
  const std::string spaces(1'000'000, ' '), letters(1'000'000, 'a');
  const auto find = [](std::string_view pattern, std::string_view text) {
    auto regex = SplitRegex::Compile(pattern);
    return Find(**regex, text);
  };
  EXPECT_EQ(find(R"(\s+$)", spaces + "1"), Matches{}) << "quadratic if every space were tried as a beginning";
  EXPECT_EQ(find(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", spaces + "x"), (Matches{{0, 999'999}, {999'999, 1'000'000}}));
  EXPECT_EQ(find("(?:a|aa)+b", letters), Matches{}) << "the budget ends it";
  EXPECT_EQ(find("(?:a|a)+(?:a|a)+b", letters), Matches{});
  EXPECT_EQ(find("(a+)+?b", std::string(5000, 'a')), Matches{}) << "PCRE2's match limit ends it";
}

}  // namespace
}  // namespace fathom
