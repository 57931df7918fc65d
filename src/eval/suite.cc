#include "eval/suite.h"

#include <algorithm>
#include <array>
#include <map>

namespace fathom {
namespace {

constexpr std::array<Suite, 9> kSuites = {{
    {.name = "verifiable",
     .about = "fathom's own problems, the held-out split; any seed gives problems that no training run has seen",
     .paper = "fathom tasks --list",
     .licence = "made on the spot",
     .folder = "",
     .extra_name = "",
     .mean_of_families = false,
     .load = LoadVerifiable},
    {.name = "gsm8k",
     .about = "grade-school word problems, test set",
     .paper = "Cobbe et al., arXiv 2110.14168",
     .licence = "MIT",
     .folder = "gsm8k",
     .extra_name = "",
     .mean_of_families = false,
     .load = LoadGsm8k},
    {.name = "svamp",
     .about = "word problems with misleading numbers",
     .paper = "Patel et al., arXiv 2103.07191",
     .licence = "MIT",
     .folder = "math_small",
     .extra_name = "",
     .mean_of_families = false,
     .load = LoadSvamp},
    {.name = "asdiv",
     .about = "word problems of many kinds",
     .paper = "Miao et al., ACL 2020, arXiv 2106.15772",
     .licence = "CC BY-NC 4.0",
     .folder = "math_small",
     .extra_name = "",
     .mean_of_families = false,
     .load = LoadAsdiv},
    {.name = "mawps",
     .about = "word problems of four older sets",
     .paper = "Koncel-Kedziorski et al., NAACL 2016",
     .licence = "MIT",
     .folder = "math_small",
     .extra_name = "",
     .mean_of_families = false,
     .load = LoadMawps},
    {.name = "tatqa",
     .about = "questions about tables and text of financial reports, development set",
     .paper = "Zhu et al., ACL 2021, arXiv 2105.07624",
     .licence = "CC BY 4.0",
     .folder = "tatqa",
     .extra_name = "F1",
     .mean_of_families = false,
     .load = LoadTatQa},
    {.name = "legalbench",
     .about = "legal reasoning, the tasks whose test is here",
     .paper = "Guha et al., arXiv 2308.11462",
     .licence = "CC BY 4.0 (the tasks scored)",
     .folder = "legalbench",
     .extra_name = "",
     .mean_of_families = true,
     .load = LoadLegalBench},
    {.name = "lawbench",
     .about = "Chinese law, the tasks that are here",
     .paper = "Fei et al., arXiv 2309.16289",
     .licence = "Apache-2.0",
     .folder = "lawbench",
     .extra_name = "",
     .mean_of_families = true,
     .load = LoadLawBench},
    {.name = "bbh",
     .about = "BIG-Bench-Hard, 27 tasks",
     .paper = "Suzgun et al., arXiv 2210.09261",
     .licence = "MIT",
     .folder = "bbh",
     .extra_name = "",
     .mean_of_families = true,
     .load = LoadBbh},
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
