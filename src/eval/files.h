// The formats that suites come in: JSON, lines of JSON, tab-separated tables. Errors name the file and the line.
//
// Plain functions, thread-safe.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace fathom {

/// At most 256 MiB. kNotFound says where the suite's files are looked for and how to name another place.
Result<std::string> ReadSuiteFile(const std::string& data, const std::string& relative);
/// The whole file as one JSON value.
Result<nlohmann::json> ReadSuiteJson(const std::string& data, const std::string& relative);
/// One JSON object a line; empty lines are skipped.
Result<std::vector<nlohmann::json>> ReadSuiteJsonLines(const std::string& data, const std::string& relative);
/// Names in a folder of the suite, sorted. kNotFound as ReadSuiteFile.
Result<std::vector<std::string>> ListSuiteFolder(const std::string& data, const std::string& relative);
bool SuiteFileExists(const std::string& data, const std::string& relative);

using TableRow = std::map<std::string, std::string, std::less<>>;
/// A tab-separated table with a header; fields in double quotes may hold tabs, line breaks and doubled quotes (as
/// Python's csv has it). Rows may be shorter than the header; longer ones are kCorrupt.
Result<std::vector<TableRow>> ParseTable(std::string_view text, const std::string& name);

/// A string field of an object; kCorrupt naming `where` when it is absent or of another type.
Result<std::string> StringField(const nlohmann::json& object, const char* key, const std::string& where);

}  // namespace fathom
