#include "train/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

namespace fathom {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

RunMetrics MadeUpRun(int64_t steps) {
  RunMetrics run;
  for (int64_t s = 1; s <= steps; ++s) {
    StepMetrics m{.step = s, .tokens = s * 100, .stage = s * 2 > steps ? "tasks" : "prose",
                  .loss = 10.0 - static_cast<double>(s) / static_cast<double>(steps), .gradient_norm = 1,
                  .seconds = static_cast<double>(s), .cost = static_cast<double>(s) / 100};
    if (s % 10 == 0 || steps < 10) m.expert_load = {{0.25f, 0.25f, 0.5f, 0.0f}, {0.25f, 0.25f, 0.25f, 0.25f}};
    run.steps.push_back(std::move(m));
  }
  return run;
}

// The JSON that the page draws.
Json DataOf(const std::string& page) {
  const std::string open = "id=\"data\">";
  const size_t begin = page.find(open) + open.size(), end = page.find("</script>", begin);
  return Json::parse(page.substr(begin, end - begin));
}

TEST(Report, EveryStepOfAShortRun) {
  const Json data = DataOf(ReportHtml(MadeUpRun(6), {.name = "nano"}));
  EXPECT_EQ(data["x"]["step"], Json::array({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(data["x"]["tokens"], Json::array({100, 200, 300, 400, 500, 600}));
  EXPECT_EQ(data["loss"]["mean"].size(), 6u);
  EXPECT_FALSE(data["loss"].contains("low"));
  EXPECT_TRUE(data["mtp_loss"].is_null());  // no step has it
  EXPECT_EQ(data["info"]["name"], "nano");
  EXPECT_EQ(data["stages"].size(), 2u);
  EXPECT_EQ(data["stages"][1]["name"], "tasks");
  EXPECT_EQ(data["stages"][1]["step"], 3);
  EXPECT_EQ(data["load"]["layers"], Json::array({{2, 2, 2, 2, 2, 2}, {1, 1, 1, 1, 1, 1}}));
  EXPECT_EQ(data["load"]["experts"], Json::array({{1, 1, 2, 0}, {1, 1, 1, 1}}));
}

TEST(Report, ALongRunBecomesBucketsThatKeepTheExtremes) {
  RunMetrics run = MadeUpRun(20000);
  run.steps[777].loss = 99;
  run.steps[778].loss = -5;
  const std::string page = ReportHtml(run, {});
  EXPECT_LT(page.size(), 400000u);
  const Json data = DataOf(page);
  ASSERT_EQ(data["loss"]["mean"].size(), 800u);
  double high = 0, low = 1e9, sum = 0;
  for (const Json& v : data["loss"]["high"]) high = std::max(high, v.get<double>());
  for (const Json& v : data["loss"]["low"]) low = std::min(low, v.get<double>());
  for (const Json& v : data["loss"]["mean"]) sum += v.get<double>();
  EXPECT_EQ(high, 99);
  EXPECT_EQ(low, -5);
  EXPECT_NEAR(sum / 800, 9.5, 0.02);
  EXPECT_EQ(data["x"]["step"].back(), 20000);
  EXPECT_EQ(data["load"]["busiest"].size(), 160u);
  EXPECT_NEAR(data["now"]["loss"].get<double>(), 9.005, 0.01);  // smoothed over some hundredth
}

TEST(Report, EventsHaveTheirPlaces) {
  RunMetrics run = MadeUpRun(100);
  run.events.push_back({"start", 0, {{"run", ToJson({.name = "old"})}}});
  run.events.push_back({"validation", 50, {{"loss", 4.5}, {"bits_per_byte", 1.25}}});
  run.events.push_back({"validation", 60, {{"loss", "?"}}});
  run.events.push_back({"start", 60, {{"run", ToJson({.name = "new", .price_per_hour = 2})}}});
  Json data = DataOf(ReportHtml(run, ReportInfoOf(run)));
  ASSERT_EQ(data["validation"].size(), 1u);
  EXPECT_EQ(data["validation"][0]["tokens"], 5000);
  EXPECT_EQ(data["validation"][0]["bits"], 1.25);
  EXPECT_EQ(data["info"]["name"], "new");
  EXPECT_EQ(data["now"]["resumed"], 1);
  EXPECT_THAT(data["now"]["state"].get<std::string>(), HasSubstr("running"));
  run.events.push_back({"end", 100, {{"finished", true}}});
  EXPECT_EQ(DataOf(ReportHtml(run, {}))["now"]["state"], "finished");
}

TEST(Report, NumbersThatAreNoneLeaveGaps) {
  RunMetrics run = MadeUpRun(5);
  run.steps[2].loss = NAN;
  run.steps[3].loss = INFINITY;
  run.steps[4].expert_load = {{1.0f}};  // of another shape: left out
  const Json data = DataOf(ReportHtml(run, {}));
  EXPECT_TRUE(data["loss"]["mean"][2].is_null());
  EXPECT_TRUE(data["loss"]["mean"][3].is_null());
  EXPECT_FALSE(data["loss"]["mean"][4].is_null());
  EXPECT_EQ(data["load"]["step"].size(), 4u);
}

TEST(Report, NothingFromARunBecomesMarkup) {
  RunMetrics run = MadeUpRun(3);
  run.steps[0].stage = "</script><img src=x>";
  const ReportInfo info{.name = "</title><script>alert(1)</script>\xff", .config = {{"<b>", "</script>"}}};
  const std::string page = ReportHtml(run, info);
  EXPECT_THAT(page, Not(HasSubstr("alert(1)</script>")));
  EXPECT_THAT(page, Not(HasSubstr("<img")));
  EXPECT_EQ(DataOf(page)["info"]["config"][0][1], "</script>");
  // Nothing is fetched: the only address is the name of SVG's elements.
  size_t addresses = 0;
  for (size_t at = page.find("://"); at != std::string::npos; at = page.find("://", at + 1)) ++addresses;
  EXPECT_EQ(addresses, 1u);
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
}

TEST(Report, FilesAreWrittenWholeOrNotAtAll) {
  std::string dir = (std::filesystem::temp_directory_path() / "fathom_report_XXXXXX").string();
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  const std::string metrics = dir + "/metrics.jsonl", html = dir + "/report.html";
  EXPECT_EQ(WriteReport(metrics, html).error().code, ErrorCode::kNotFound);
  std::ofstream(metrics) << "{\"event\":\"start\",\"step\":0}\n";
  EXPECT_EQ(WriteReport(metrics, html).error().code, ErrorCode::kCorrupt);
  EXPECT_FALSE(std::filesystem::exists(html));
  std::ofstream(metrics) << "{\"step\":1,\"tokens\":5,\"loss\":3}\n";
  ASSERT_TRUE(WriteReport(metrics, html));
  std::ifstream in(html, std::ios::binary);
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace fathom
