#include "cli/tenants_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fathom {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(TenantsFile, SaysWhatItSaysAndLeavesTheRest) {
  const TenantRules defaults = {.limits = {.disk_bytes = 5, .ttl_seconds = 7}, .quota = {.concurrent = 3}};
  const auto rules = ParseTenants(R"(# shares
[tenant.alice]
cache_ram = "1GiB"
cache_disk = 1048576
cache_pinned = "0"
ttl_hours = 1.5
requests_per_minute = 60
concurrent = 4

[tenant."team.b"]
cache_ram = "512 MB"

[tenant.c]
cache_disk = 0
ttl_hours = 0
)",
                                  "t.toml", defaults);
  ASSERT_TRUE(rules) << rules.error().message;
  ASSERT_EQ(rules->size(), 3u);
  const TenantRules& alice = rules->at("alice");
  EXPECT_EQ(alice.limits.memory_bytes, int64_t{1} << 30);
  EXPECT_EQ(alice.limits.disk_bytes, 1048576);
  EXPECT_EQ(alice.limits.pinned_bytes, 0);
  EXPECT_EQ(alice.limits.ttl_seconds, 5400);
  EXPECT_EQ(alice.quota.requests_per_minute, 60);
  EXPECT_EQ(alice.quota.concurrent, 4);
  const TenantRules& team = rules->at("team.b");
  EXPECT_EQ(team.limits.memory_bytes, 512'000'000);
  EXPECT_EQ(team.limits.disk_bytes, 5);
  EXPECT_EQ(team.limits.pinned_bytes, TenantLimits::kNone);
  EXPECT_EQ(team.limits.ttl_seconds, 7);
  EXPECT_EQ(team.quota.concurrent, 3);
  EXPECT_EQ(rules->at("c").limits.disk_bytes, 0);
  EXPECT_EQ(rules->at("c").limits.ttl_seconds, 0);
}

TEST(TenantsFile, ErrorsNameLineAndField) {
  const struct {
    const char* text;
    const char* first;
    const char* second;
  } cases[] = {
      {"\n[tenant.a]\ncache_ram = \"much\"\n", "t.toml: line 3", "tenant.a.cache_ram much: not a size"},
      {"\n[tenant.a]\ncache_disk = -1\n", "t.toml: line 3", "tenant.a.cache_disk is -1"},
      {"[tenant.a]\ncache_disk = true\n", "t.toml: line 2", "tenant.a.cache_disk is a boolean"},
      {"[tenant.a]\ncache_disc = 1\n", "t.toml: line 2: tenant.a.cache_disc is not a key of a tenants file",
       "did you mean cache_disk?"},
      {"[tenant.a]\nttl_hours = \"x\"\n", "t.toml: line 2", "tenant.a.ttl_hours is a string"},
      {"[tenant.a]\nttl_hours = -2\n", "t.toml: line 2", "tenant.a.ttl_hours is -2"},
      {"[tenant.a]\nconcurrent = 99999999999\n", "t.toml: line 2", "tenant.a.concurrent is 99999999999"},
      {"[tenant.a]\nrequests_per_minute = nan\n", "t.toml: line 2", "tenant.a.requests_per_minute is nan"},
      {"[tenants.a]\nconcurrent = 1\n", "t.toml: line 1: tenants is not a key", "did you mean tenant?"},
      {"\n\n[tenant.\"a b\"]\nconcurrent = 1\n", "t.toml: line 3", "a tenant's name has"},
      {"[tenant]\na = 3\n", "t.toml: line 2", "tenant.a is an integer"},
      {"tenant = 3\n", "t.toml: line 1", "tenant is an integer"},
      {"[tenant.a]\nconcurrent = \n", "t.toml: line 2", ""},
      {"[tenant.a]\n[tenant.a]\n", "t.toml: line 2", ""},
      {"", "t.toml: names no tenant", "[tenant.NAME]"},
      {"[tenant]\n", "t.toml: names no tenant", ""},
  };
  for (const auto& one : cases) {
    const auto rules = ParseTenants(one.text, "t.toml", {});
    ASSERT_FALSE(rules) << one.text;
    EXPECT_EQ(rules.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(rules.error().message, AllOf(HasSubstr(one.first), HasSubstr(one.second)));
  }
  const auto none = LoadTenants("/nonexistent/tenants.toml", {});
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, HasSubstr("/nonexistent/tenants.toml"));
}

TEST(TenantsFile, HoursAreSeconds) {
  EXPECT_EQ(TtlSeconds(0), 0);
  EXPECT_EQ(TtlSeconds(24), 86400);
  EXPECT_EQ(TtlSeconds(1e-9), 1);  // 0 would be for ever
}

}  // namespace
}  // namespace fathom
