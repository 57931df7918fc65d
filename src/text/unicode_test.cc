#include "text/unicode.h"

#include <gtest/gtest.h>

#include "text/text_test_data.h"

namespace fathom {
namespace {

std::string Sanitized(std::string_view text) {
  std::string out;
  EXPECT_EQ(SanitizeUtf8(text, true, out), text.size());
  return out;
}

TEST(Utf8, DecodesWhatIsWellFormedAndNothingElse) {
  EXPECT_EQ(DecodeUtf8("A", 0).code_point, 'A');
  EXPECT_EQ(DecodeUtf8("é", 0).code_point, 0xE9u);
  EXPECT_EQ(DecodeUtf8("中", 0).length, 3);
  EXPECT_EQ(DecodeUtf8("😀", 0).code_point, 0x1F600u);
  // Overlong, surrogate, past U+10FFFF, cut off, lone tail: each is one broken byte.
  for (std::string_view bad : {"\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                               "\xf5\x80\x80\x80", "\xc3", "\xe4\xb8", "\xf0\x9f\x98", "\x80", "\xff"}) {
    const Utf8Char c = DecodeUtf8(bad, 0);
    EXPECT_FALSE(c.ok);
    EXPECT_EQ(c.length, 1);
    EXPECT_EQ(c.code_point, kReplacement);
    EXPECT_FALSE(IsValidUtf8(bad));
  }
  for (uint32_t c = 0; c <= kMaxCodePoint; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(c, text);
    const Utf8Char back = DecodeUtf8(text, 0);
    ASSERT_TRUE(back.ok && back.code_point == c && back.length == text.size()) << c;
  }
}

TEST(Utf8, ReplacesEachMaximalSubpartOnce) {
  EXPECT_EQ(Sanitized("a\xff z"), "a\uFFFD z");
  // Unicode 16, table 3-8 and 3-11: what browsers do.
  EXPECT_EQ(Sanitized("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(Sanitized("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"),
            "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(Sanitized("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"), "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFDB");
  EXPECT_EQ(Sanitized("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"), "\uFFFD\uFFFD\uFFFD\uFFFDA");
  EXPECT_EQ(Sanitized("\xf0\x9f\x98"), "\uFFFD");
}

TEST(Utf8, HoldsBackOnlyWhatMayStillBecomeACharacter) {
  std::string out;
  EXPECT_EQ(SanitizeUtf8("ab\xf0\x9f\x98", false, out), 2u);
  EXPECT_EQ(out, "ab");
  out.clear();
  EXPECT_EQ(SanitizeUtf8("\xed\xa0", false, out), 2u) << "a surrogate can never be completed";
  EXPECT_EQ(out, "\uFFFD\uFFFD");
}

TEST(Normalize, Forms) {
  EXPECT_EQ(Normalize("e\u0301", NormalForm::kNfc), "é");
  EXPECT_EQ(Normalize("é", NormalForm::kNfd), "e\u0301");
  EXPECT_EQ(Normalize("\u212b", NormalForm::kNfc), "Å");
  EXPECT_EQ(Normalize("ﬁ½", NormalForm::kNfc), "ﬁ½");
  EXPECT_EQ(Normalize("ﬁ", NormalForm::kNfkc), "fi");
  EXPECT_EQ(Normalize("\u1100\u1161\u11a8", NormalForm::kNfc), "각");
  EXPECT_EQ(Normalize("e\u0301\xff" "e\u0301\xc3", NormalForm::kNfc), "é\xff" "é\xc3") << "broken bytes stay";
  // U+07FD has a combining class since Unicode 11, but not in the authors' tables: it is not moved before U+0345.
  EXPECT_EQ(Normalize("a\u0345\u07fd", NormalForm::kNfc), "a\u0345\u07fd");
}

TEST(CodePointSet, Algebra) {
  CodePointSet set;
  set.Add('d', 'f');
  set.Add('a', 'c');
  set.Add('x', 'x');
  ASSERT_EQ(set.ranges().size(), 2u);
  EXPECT_TRUE(set.Contains('a') && set.Contains('f') && set.Contains('x'));
  EXPECT_FALSE(set.Contains('g'));
  EXPECT_EQ(set.Complement().Complement().ranges(), set.ranges());
  EXPECT_TRUE(set.Intersect(set.Complement()).empty());
  EXPECT_EQ(CodePointSet().Complement().ranges().front().last, kMaxCodePoint);
}

TEST(CodePointSet, FastSetAgrees) {
  RandomForTest random(3);
  for (const char* name : {"L", "N", "P", "S", "M", "Lu", "Han", "Any", "Cn"}) {
    CodePointSet set;
    ASSERT_TRUE(CodePointSet::FromProperty(name, set)) << name;
    const FastSet fast(set);
    for (uint32_t c = 0; c <= kMaxCodePoint; c += 1 + random.Below(7)) {
      ASSERT_EQ(fast.Contains(c), set.Contains(c)) << name << " " << c;
    }
    for (int c = 0; c < 128; ++c) EXPECT_EQ(fast.ContainsAscii(static_cast<uint8_t>(c)), set.Contains(c));
  }
}

TEST(CodePointSet, KnowsUnicode16) {
  const auto in = [](const char* property, uint32_t c) {
    CodePointSet set;
    EXPECT_TRUE(CodePointSet::FromProperty(property, set));
    return set.Contains(c);
  };
  EXPECT_TRUE(in("So", 0x1FAE8));   // shaking face, Unicode 15
  EXPECT_TRUE(in("Lo", 0x31350));   // CJK extension H, Unicode 15
  EXPECT_TRUE(in("Lu", 0x1C89));    // Unicode 16
  EXPECT_TRUE(in("Cf", 0x180E));    // not a space since 6.3
  EXPECT_FALSE(CodePointSet::WhiteSpace().Contains(0x180E));
  EXPECT_TRUE(CodePointSet::WhiteSpace().Contains(0x85));
  EXPECT_TRUE(in("Nl", 0x2167));
  EXPECT_FALSE(in("Cn", 'a'));
  CodePointSet none;
  EXPECT_FALSE(CodePointSet::FromProperty("Klingon", none));
  EXPECT_FALSE(CodePointSet::FromProperty("", none));
  EXPECT_FALSE(CodePointSet::FromProperty("Lx", none));
}

TEST(CodePointSet, OtherCases) {
  CodePointSet set;
  set.Add('k', 'k');
  set.Add(0x3C3, 0x3C3);  // sigma
  set.AddOtherCases();
  for (uint32_t c : {uint32_t{'K'}, 0x212Au, 0x3A3u, 0x3C2u}) EXPECT_TRUE(set.Contains(c)) << c;
  EXPECT_FALSE(set.Contains('j'));
}

}  // namespace
}  // namespace fathom
