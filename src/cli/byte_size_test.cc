#include "cli/byte_size.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(ByteSize, ReadsWhatPeopleWrite) {
  for (const auto& [text, bytes] : std::initializer_list<std::pair<const char*, int64_t>>{
           {"0", 0}, {"4096", 4096}, {"4GiB", int64_t{4} << 30}, {"4g", int64_t{4} << 30}, {"64M", 64 << 20},
           {"1.5GiB", int64_t{3} << 29}, {"100GB", 100'000'000'000}, {"2 TiB", int64_t{2} << 40}, {"7b", 7},
           {"1k", 1024}, {"1kb", 1000}}) {
    const auto size = ParseByteSize("--cache-ram", text);
    ASSERT_TRUE(size.has_value()) << text;
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(ByteSize, RefusesTheRestByName) {
  for (const char* text : {"", "GiB", "-1", "4X", "4GiBs", "nan", "inf", "1e30", "4 4", "0x10", "999999999T"}) {
    const auto size = ParseByteSize("--cache-ram", text);
    ASSERT_FALSE(size.has_value()) << text;
    EXPECT_EQ(size.error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(size.error().message.starts_with("--cache-ram ")) << size.error().message;
  }
}

}  // namespace
}  // namespace fathom
