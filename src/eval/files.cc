#include "eval/files.h"

#include "format/json.h"
#include "format/json_lines.h"
#include "io/env.h"

namespace fathom {
namespace {
constexpr int64_t kMostBytes = int64_t{256} << 20;

std::string PathOf(const std::string& data, const std::string& relative) { return JoinPath(data, relative); }

std::unexpected<Error> NotHere(const std::string& path) {
  return Fail(ErrorCode::kNotFound,
              "{}: not there\nName the folder that holds the suites with --data DIR, or set "
              "FATHOM_SHARED_DATA (its folder eval/ is read).",
              path);
}
}  // namespace

Result<std::string> ReadSuiteFile(const std::string& data, const std::string& relative) {
  const std::string path = PathOf(data, relative);
  if (!Env::Default().Exists(path)) return NotHere(path);
  return ReadWholeFile(Env::Default(), path, kMostBytes);
}

bool SuiteFileExists(const std::string& data, const std::string& relative) {
  return Env::Default().Exists(PathOf(data, relative));
}

Result<std::vector<std::string>> ListSuiteFolder(const std::string& data, const std::string& relative) {
  const std::string path = PathOf(data, relative);
  if (!Env::Default().IsDirectory(path)) return NotHere(path);
  return Env::Default().List(path);
}

Result<nlohmann::json> ReadSuiteJson(const std::string& data, const std::string& relative) {
  FATHOM_TRY(const std::string text, ReadSuiteFile(data, relative));
  // ParseJsonObject bounds the nesting; a list is wrapped to be an object.
  auto parsed = ParseJsonObject("{\"root\":" + text + "}");
  if (!parsed) return Prefix(parsed.error(), PathOf(data, relative));
  return std::move((*parsed)["root"]);
}

Result<std::vector<nlohmann::json>> ReadSuiteJsonLines(const std::string& data, const std::string& relative) {
  FATHOM_TRY(const std::string text, ReadSuiteFile(data, relative));
  std::vector<nlohmann::json> lines;
  FATHOM_CHECK_OK(ForEachJsonLine(text, PathOf(data, relative), 64, [&](nlohmann::json& object) -> Status {
    lines.push_back(std::move(object));
    return {};
  }));
  return lines;
}

Result<std::vector<TableRow>> ParseTable(std::string_view text, const std::string& name) {
  std::vector<std::string> header, fields(1);
  std::vector<TableRow> rows;
  size_t line = 1, row_line = 1;
  bool quoted = false, anything = false;
  const auto end_row = [&]() -> Status {
    if (!anything) return {};
    if (header.empty()) {
      header = std::move(fields);
    } else {
      if (fields.size() > header.size()) {
        return Fail(ErrorCode::kCorrupt, "{}: line {} has {} fields and the header {}", name, row_line, fields.size(),
                    header.size());
      }
      TableRow row;
      for (size_t i = 0; i < fields.size(); ++i) row[header[i]] = std::move(fields[i]);
      rows.push_back(std::move(row));
    }
    fields.assign(1, {});
    anything = false;
    return {};
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (quoted) {
      if (c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
        fields.back() += '"';
        ++i;
      } else if (c == '"') {
        quoted = false;
      } else {
        fields.back() += c;
      }
    } else if (c == '"' && fields.back().empty()) {
      quoted = anything = true;
    } else if (c == '\t') {
      fields.emplace_back();
      anything = true;
    } else if (c == '\n' || c == '\r') {
      FATHOM_CHECK_OK(end_row());
      row_line = line;
    } else {
      fields.back() += c;
      anything = true;
    }
  }
  if (quoted)
    return Fail(ErrorCode::kCorrupt, "{}: the quote that opened in the row of line {} never ends", name, row_line);
  FATHOM_CHECK_OK(end_row());
  return rows;
}

Result<std::string> StringField(const nlohmann::json& object, const char* key, const std::string& where) {
  if (!object.is_object()) return Fail(ErrorCode::kCorrupt, "{}: not an object", where);
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) {
    return Fail(ErrorCode::kCorrupt, "{}: \"{}\" is missing or no text", where, key);
  }
  return found->get<std::string>();
}

}  // namespace fathom
