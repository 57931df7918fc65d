// Who is let in: keys, hosts and origins, limits. And the small parts around them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/auth.h"
#include "server/gunzip.h"
#include "server/http_types.h"
#include "server/metrics.h"
#include "server/origin_guard.h"
#include "server/tenant_gate.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

TEST(ApiKeys, FreshOnesAreFoundAndOnlyThey) {
  const auto fresh = MakeApiKey("alice", "team-a"), other = MakeApiKey("bob");
  ASSERT_TRUE(fresh && other);
  EXPECT_NE(fresh->key, other->key);
  EXPECT_EQ(fresh->key.size(), 4 + 64u);
  EXPECT_EQ(fresh->line.find(fresh->key.substr(4)), std::string::npos) << "the file must not hold the key";
  const auto keys = ApiKeys::Parse("# keys\n\n" + fresh->line + "\n  " + other->line + " admin\n", "keys");
  ASSERT_TRUE(keys.has_value()) << keys.error().message;
  EXPECT_EQ(keys->size(), 2u);
  ASSERT_NE(keys->Find(fresh->key), nullptr);
  EXPECT_EQ(keys->Find(fresh->key)->tenant, "team-a");
  EXPECT_FALSE(keys->Find(fresh->key)->admin);
  EXPECT_EQ(keys->Find(other->key)->tenant, "bob");
  EXPECT_EQ(keys->Find(other->key)->key_name, "bob");
  EXPECT_TRUE(keys->Find(other->key)->admin);
  for (std::string wrong : {std::string(), fresh->key + "x", fresh->key.substr(1), std::string("alice")}) {
    EXPECT_EQ(keys->Find(wrong), nullptr);
  }
  EXPECT_TRUE(keys->HasTenant("team-a"));
  EXPECT_FALSE(keys->HasTenant("alice"));
}

TEST(ApiKeys, BadLinesAreNamed) {
  const std::string hash(64, 'a');
  for (const std::string& line : std::initializer_list<std::string>{"alice", "alice abc", "al/ice " + hash, "alice " + hash + " t x y",
                                  "alice " + std::string(64, 'g'), hash + " alice", "alice " + hash + " t/t"}) {
    const auto keys = ApiKeys::Parse("# first\n" + line, "keys.txt");
    ASSERT_FALSE(keys.has_value()) << line;
    EXPECT_THAT(keys.error().message, HasSubstr("keys.txt: line 2"));
  }
  EXPECT_FALSE(ApiKeys::Parse("", "keys.txt").has_value());
  EXPECT_FALSE(ApiKeys::Load("/nonexistent/keys").has_value());
  EXPECT_FALSE(MakeApiKey("a b").has_value());
  EXPECT_FALSE(MakeApiKey("").has_value());
}

TEST(ApiKeys, BearerTokens) {
  EXPECT_EQ(BearerToken("Bearer abc"), "abc");
  EXPECT_EQ(BearerToken("bEARER  abc "), "abc");
  for (const char* none : {"", "Bearer", "Bearer ", "Basic abc", "abc"}) EXPECT_EQ(BearerToken(none), "") << none;
}

HttpHead Head(const std::string& host, const std::string& origin = "") {
  HttpHead head;
  head.headers = {{"host", host}};
  if (!origin.empty()) head.headers.emplace_back("origin", origin);
  return head;
}

TEST(OriginGuard, HostsAgainstRebinding) {
  const OriginRules rules{.allowed_hosts = {"Box.example.org"}, .cors_origins = {}};
  for (const char* host : {"localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]:8080", "[::1]",
                           "chat.localhost", "192.168.1.5:8080", "[fe80::1]:1", "box.example.org:8080", "localhost."}) {
    EXPECT_EQ(CheckOrigin(Head(host), rules).verdict, OriginVerdict::kFine) << host;
  }
  for (const char* host : {"", "evil.example", "evil.example:8080", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.com",
                           "127.0.0.1@evil.com", "localhost:80:80", "[::1", "localhost:x", "local host", "2130706433",
                           "box.example.org.evil.com"}) {
    EXPECT_EQ(CheckOrigin(Head(host), rules).verdict, OriginVerdict::kBadHost) << host;
  }
  HttpHead twice = Head("localhost");
  twice.headers.emplace_back("host", "evil.example");
  EXPECT_EQ(CheckOrigin(twice, rules).verdict, OriginVerdict::kBadHost);
  EXPECT_EQ(CheckOrigin(HttpHead{}, rules).verdict, OriginVerdict::kBadHost);
}

TEST(OriginGuard, OriginsByList) {
  const OriginRules rules{.allowed_hosts = {}, .cors_origins = {"https://chat.example.org"}};
  EXPECT_EQ(CheckOrigin(Head("localhost:8080", "http://localhost:8080"), rules).verdict, OriginVerdict::kFine);
  EXPECT_EQ(CheckOrigin(Head("localhost:8080", "http://localhost:8080"), rules).allow_origin, "");
  EXPECT_EQ(CheckOrigin(Head("localhost", "https://chat.example.org"), rules).allow_origin, "https://chat.example.org");
  for (const char* origin : {"https://evil.example", "null", "http://localhost:9090", "http://localhost",
                             "https://chat.example.org.evil.com", "http://chat.example.org", "file://"}) {
    EXPECT_EQ(CheckOrigin(Head("localhost:8080", origin), rules).verdict, OriginVerdict::kBadOrigin) << origin;
  }
}

TEST(TenantGate, ConcurrencyAndRate) {
  TenantGate gate({.requests_per_minute = 2, .concurrent = 1});
  const auto now = TenantGate::Clock::now();
  auto first = gate.Enter("a", now);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(gate.Enter("a", now).error().code, "concurrency_limit_exceeded");
  EXPECT_TRUE(gate.Enter("b", now).has_value()) << "another tenant's limits are its own";
  first->reset();
  ASSERT_TRUE(gate.Enter("a", now).has_value());
  const auto limited = gate.Enter("a", now);
  ASSERT_FALSE(limited.has_value());
  EXPECT_EQ(limited.error().status, 429);
  EXPECT_EQ(limited.error().retry_after_seconds, 30);
  EXPECT_FALSE(gate.Enter("a", now + std::chrono::seconds(29)).has_value());
  EXPECT_TRUE(gate.Enter("a", now + std::chrono::seconds(31)).has_value());
}

TEST(TenantGate, ANamedTenantHasItsOwnLimits) {
  TenantGate gate({.requests_per_minute = 1, .concurrent = 0}, {{"large", {.requests_per_minute = 0, .concurrent = 2}}});
  const auto now = TenantGate::Clock::now();
  EXPECT_TRUE(gate.Enter("small", now).has_value());
  EXPECT_EQ(gate.Enter("small", now).error().code, "rate_limit_exceeded");
  const auto first = gate.Enter("large", now), second = gate.Enter("large", now), third = gate.Enter("large", now);
  EXPECT_TRUE(first.has_value() && second.has_value());
  ASSERT_FALSE(third.has_value());
  EXPECT_EQ(third.error().code, "concurrency_limit_exceeded");
}

TEST(TenantGate, APlaceMayOutliveTheGate) {
  std::shared_ptr<void> place;
  {
    TenantGate gate({.requests_per_minute = 0, .concurrent = 1});
    place = *gate.Enter("a");
  }
  place.reset();
}

TEST(Metrics, PrometheusText) {
  Histogram histogram({0.1, 1});
  for (const double value : {0.05, 0.1, 0.5, 7.0}) histogram.Observe(value);
  MetricsText text;
  text.Histogram("h_seconds", "Help.", histogram);
  text.Counter("c_total", "Count.", 3, MetricsText::Label("path", "a\"b\\c\n"));
  text.Counter("c_total", "Count.", 4);
  text.Gauge("g", "Gauge.", 0.25);
  EXPECT_EQ(text.Take(),
            "# HELP h_seconds Help.\n# TYPE h_seconds histogram\n"
            "h_seconds_bucket{le=\"0.1\"} 2\nh_seconds_bucket{le=\"1\"} 3\nh_seconds_bucket{le=\"+Inf\"} 4\n"
            "h_seconds_sum 7.65\nh_seconds_count 4\n"
            "# HELP c_total Count.\n# TYPE c_total counter\n"
            "c_total{path=\"a\\\"b\\\\c\\n\"} 3\nc_total 4\n"
            "# HELP g Gauge.\n# TYPE g gauge\ng 0.25\n");
}

TEST(HttpTypes, PercentAndQuery) {
  std::string out;
  EXPECT_TRUE(PercentDecode("/a%20b%2Fc", out));
  EXPECT_EQ(out, "/a b/c");
  for (const char* bad : {"%", "%4", "%zz", "a%00b"}) EXPECT_FALSE(PercentDecode(bad, out)) << bad;
  EXPECT_EQ(QueryValue("a=1&limit=20&b", "limit"), "20");
  EXPECT_EQ(QueryValue("a=x+y%21", "a"), "x y!");
  EXPECT_EQ(QueryValue("b", "b"), "");
  EXPECT_EQ(QueryValue("", "b"), "");
}

TEST(Gunzip, ForClientsWithoutIt) {
  EXPECT_TRUE(AcceptsGzip("gzip, deflate, br"));
  EXPECT_TRUE(AcceptsGzip("br;q=1, gzip;q=0.5"));
  EXPECT_TRUE(AcceptsGzip("*"));
  for (const char* no : {"", "identity", "br", "gzip;q=0", "gzip;q=0.0", "xgzip"}) EXPECT_FALSE(AcceptsGzip(no)) << no;
  // printf 'hello hello hello hello\n' | gzip -n
  constexpr unsigned char kBytes[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9,
                                      0x57, 0xc8, 0x40, 0x27, 0xb9, 0x00, 0x00, 0x88, 0x59, 0x0b, 0x18, 0x00, 0x00, 0x00};
  const std::string_view compressed(reinterpret_cast<const char*>(kBytes), sizeof kBytes);
  std::string out;
  ASSERT_TRUE(Gunzip(compressed, out));
  EXPECT_EQ(out, "hello hello hello hello\n");
  EXPECT_FALSE(Gunzip(compressed.substr(0, 20), out));
  EXPECT_FALSE(Gunzip("no gzip at all, but long enough", out));
  EXPECT_FALSE(Gunzip("", out));
}

}  // namespace
}  // namespace fathom
