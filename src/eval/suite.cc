#include "eval/suite.h"

#include <algorithm>
#include <array>
#include <map>

namespace fathom {
namespace {

constexpr std::array<Suite, 1> kSuites = {{
    {.name = "verifiable",
     .about = "fathom's own problems, the held-out split; any seed gives problems that no training run has seen",
     .paper = "docs/tasks.md",
     .licence = "made on the spot",
     .folder = "",
     .extra_name = "",
     .mean_of_families = false,
     .load = LoadVerifiable},
}};

}  // namespace

std::span<const Suite> Suites() { return kSuites; }

const Suite* FindSuite(std::string_view name) {
  for (const Suite& suite : kSuites) {
    if (suite.name == name) return &suite;
  }
  return nullptr;
}

double CommonestShare(std::span<const EvalItem* const> items) {
  std::map<std::string_view, int64_t> counts;
  int64_t most = 0;
  for (const EvalItem* item : items) most = std::max(most, ++counts[item->gold]);
  return items.empty() ? 0 : static_cast<double>(most) / static_cast<double>(items.size());
}

}  // namespace fathom
