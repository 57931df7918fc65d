#include "cli/terminal.h"

#include <gtest/gtest.h>

#include "cli/cli.h"
#include "cli/progress.h"

namespace fathom {
namespace {

TEST(Terminal, SafeUtf8ReplacesBrokenSequences) {
  EXPECT_EQ(SafeUtf8("aé漢🙂"), "aé漢🙂");
  EXPECT_EQ(SafeUtf8("a\xff" "b"), "a\xef\xbf\xbd" "b");
  EXPECT_EQ(SafeUtf8("\xe6\xbc"), "\xef\xbf\xbd");              // half of a character: one mark
  EXPECT_EQ(SafeUtf8("\xc0\x80"), "\xef\xbf\xbd\xef\xbf\xbd");  // overlong
  EXPECT_EQ(SafeUtf8("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");  // surrogate
  EXPECT_EQ(SafeUtf8("\xf4\x90\x80\x80").substr(0, 3), "\xef\xbf\xbd");         // beyond U+10FFFF
}

TEST(Terminal, ModelsCannotDriveTheTerminal) {
  EXPECT_EQ(SafeForTerminal("a\033[2Jb\007\tc\nd\r\x7f"), "a[2Jb\tc\nd");
  EXPECT_EQ(SafeForTerminal("\xc2\x9b" "2J"), "2J");  // C1 control sequence introducer
}

TEST(Terminal, OneLine) {
  EXPECT_EQ(OneLine("a\nb\tc", 80), "a\\nb\\tc");
  EXPECT_EQ(OneLine("\033", 80), "\\x1b");
  EXPECT_EQ(OneLine("漢字漢字", 3), "漢字漢…");
  EXPECT_EQ(OneLine("", 3), "");
  EXPECT_EQ(OneLine("\xe6\xbc", 80), "\\xe6\\xbc");  // a token may be part of a character
}

TEST(Terminal, HumanNumbers) {
  EXPECT_EQ(HumanBytes(17), "17 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(int64_t{10} << 30), "10.0 GiB");
  EXPECT_EQ(HumanCount(671026419200), "671.0B");
  EXPECT_EQ(HumanCount(134515008), "134.5M");
  EXPECT_EQ(HumanCount(12), "12");
  EXPECT_EQ(HumanSeconds(0.25), "250 ms");
  EXPECT_EQ(HumanSeconds(3.21), "3.2 s");
  EXPECT_EQ(HumanSeconds(65), "1 min 05 s");
  EXPECT_EQ(HumanSeconds(7800), "2 h 10 min");
}

TEST(Terminal, ErrorsAreOneLineThenHints) {
  EXPECT_EQ(FormatError({ErrorCode::kIo, "x.gguf: bad"}), "fathom: x.gguf: bad\n");
  EXPECT_EQ(FormatError({ErrorCode::kIo, "bad\ntry this\nor that"}), "fathom: bad\n  try this\n  or that\n");
  EXPECT_EQ(ExitStatus({ErrorCode::kInvalidArgument, ""}), 2);
  EXPECT_EQ(ExitStatus({ErrorCode::kCorrupt, ""}), 1);
  EXPECT_EQ(ExitStatus({ErrorCode::kCancelled, ""}), 130);
}

/// Drives Progress by a clock of the test's own and collects what it writes.
class ProgressTest : public ::testing::Test {
 protected:
  Progress::Options Options(bool terminal) {
    Progress::Options options;
    options.stream = file_;
    options.terminal = terminal ? 1 : 0;
    options.width = 80;
    options.now = [this] { return now_; };
    return options;
  }
  std::string Written() {
    std::fflush(file_);
    return std::string(buffer_, size_);
  }
  void TearDown() override {
    std::fclose(file_);
    free(buffer_);
  }

  double now_ = 100;
  char* buffer_ = nullptr;
  size_t size_ = 0;
  std::FILE* file_ = open_memstream(&buffer_, &size_);
};

TEST_F(ProgressTest, ShortWorkIsSilent) {
  {
    Progress progress("work", Options(true));
    progress.Update(1, 10);
    now_ += 0.9;
    progress.Update(9, 10);
  }
  EXPECT_EQ(Written(), "");
}

TEST_F(ProgressTest, BarWithTimeLeftThatIsWiped) {
  {
    Progress progress("work", Options(true));
    progress.Update(0, 100);
    now_ += 2;
    progress.Update(50, 100, "detail");
    EXPECT_NE(Written().find("work [############------------]  50% 50/100, 2.0 s left, detail"), std::string::npos)
        << Written();
    const size_t before = Written().size();
    now_ += 0.01;
    progress.Update(51, 100);
    EXPECT_EQ(Written().size(), before);  // not redrawn that often
  }
  const std::string text = Written();
  EXPECT_EQ(text.substr(text.size() - 4), "\r\033[K");
}

TEST_F(ProgressTest, LinesNowAndThenInAPipe) {
  {
    Progress progress("work", Options(false));
    for (int i = 0; i <= 600; ++i, now_ += 0.1) progress.Update(i, 600);
  }
  const std::string text = Written();
  EXPECT_EQ(text.find('\033'), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
  const auto lines = std::count(text.begin(), text.end(), '\n');
  EXPECT_GE(lines, 3);
  EXPECT_LE(lines, 10);
}

TEST_F(ProgressTest, ResumedBytesDoNotFlatterTheRate) {
  Progress::Options options = Options(false);
  options.unit = Progress::Unit::kBytes;
  Progress progress("get", std::move(options));
  progress.Update(int64_t{1} << 30, int64_t{2} << 30);
  now_ += 2;
  progress.Update((int64_t{1} << 30) + (int64_t{2} << 20), int64_t{2} << 30);
  EXPECT_NE(Written().find("1.0 MiB/s"), std::string::npos) << Written();
}

}  // namespace
}  // namespace fathom
