#include "cli/simulation_report.h"

#include <cassert>
#include <cstdio>
#include <utility>
#include <vector>

namespace fathom {

SimulationReport::SimulationReport(bool json, nlohmann::ordered_json head, std::span<const Column> columns)
    : json_(json), document_(std::move(head)), columns_(columns) {
  document_["traces"] = nlohmann::ordered_json::array();
}

void SimulationReport::Trace(nlohmann::ordered_json fields, const std::string& summary) {
  if (json_) {
    fields["runs"] = nlohmann::ordered_json::array();
    document_["traces"].push_back(std::move(fields));
    return;
  }
  std::fputs(summary.c_str(), stdout);
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.emplace_back(column.title);
  PrintRow(titles);
}

void SimulationReport::Run(nlohmann::ordered_json fields, std::span<const std::string> cells, const std::string& after) {
  if (json_) {
    document_["traces"].back()["runs"].push_back(std::move(fields));
    return;
  }
  PrintRow(cells);
  std::fputs(after.c_str(), stdout);
}

void SimulationReport::End() {
  if (json_) std::printf("%s\n", document_.dump(2).c_str());
}

void SimulationReport::PrintRow(std::span<const std::string> cells) const {
  assert(cells.size() == columns_.size());
  std::string line;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = columns_[i];
    if (i > 0) line += column.left ? "  " : " ";
    line += column.left ? fmt::format("{:<{}}", cells[i], column.width) : fmt::format("{:>{}}", cells[i], column.width);
  }
  std::printf("%s\n", line.c_str());
}

}  // namespace fathom
