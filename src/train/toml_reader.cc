#include "train/toml_reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

namespace fathom {
namespace {

constexpr std::string_view kOverrideSource = "--set ";
constexpr size_t kMaxDots = 64;

std::string TypeName(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "a list";
    case toml::node_type::string: return "a string";
    case toml::node_type::integer: return "an integer";
    case toml::node_type::floating_point: return "a number with a fraction";
    case toml::node_type::boolean: return "a boolean";
    default: return "a date or time";
  }
}

/// Text from a file as it may stand in a message: one line, bounded, without control characters.
std::string Shown(std::string_view text) {
  std::string out(text.substr(0, 60));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  }
  if (text.size() > 60) out += "…";
  return out;
}

/// Letters put in, left out, replaced, or two swapped (optimal string alignment).
size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j - 1] + (a[i - 1] != b[j - 1]), last[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

/// The text as toml++ 3.3 can bear it. Dotted keys nested without limit would end its stack, and beyond ASCII its test
/// for white space runs into code that it calls unreachable, so letters of other scripts are for lines of comment (where
/// '?' takes their place) and for escapes in strings.
Result<std::string> ForParser(std::string_view text, const std::string& source, std::string_view document) {
  constexpr size_t kMaxDotsInLine = 256;
  std::string out(text);
  int64_t line = 1;
  size_t dots = 0;
  bool blank = true, comment = false;  // nothing in this line yet; its first character was '#'
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (blank && c != ' ' && c != '\t') blank = false, comment = c == '#';
    if (c == '.' && ++dots > kMaxDotsInLine) {
      return Fail(ErrorCode::kInvalidArgument, "{}: line {}: too many dots for {}", source, line, document);
    }
    if ((byte < 0x20 && c != '\t' && c != '\n' && c != '\r') || byte == 0x7F) {
      return Fail(ErrorCode::kInvalidArgument, "{}: line {}: a control character (0x{:02x}) cannot stand in {}",
                  source, line, byte, document);
    }
    if (byte >= 0x80) {
      if (!comment) {
        return Fail(ErrorCode::kInvalidArgument,
                    "{}: line {}: {} is ASCII, but for lines of comment\nIn a string write \"\\u00e9\" for é.",
                    source, line, document);
      }
      c = '?';
    }
    if (c == '\n') ++line, dots = 0, blank = true, comment = false;
  }
  return out;
}

}  // namespace

Result<toml::table> ParseToml(std::string_view text, const std::string& source, std::string_view document) {
  FATHOM_TRY(const std::string clean, ForParser(text, source, document));
  toml::parse_result parsed = toml::parse(clean, source);
  if (!parsed) {
    return Fail(ErrorCode::kInvalidArgument, "{}: line {}, column {}: {}", source, parsed.error().source().begin.line,
                parsed.error().source().begin.column, Shown(parsed.error().description()));
  }
  return std::move(parsed).table();
}

bool FromOverride(const toml::node& node) {
  return node.source().path != nullptr && node.source().path->starts_with(kOverrideSource);
}

Status ApplyOverride(toml::table& document, const std::string& override_text) {
  const size_t equals = override_text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return Fail(ErrorCode::kInvalidArgument, "\"{}\" is not of the form key.sub=value", Shown(override_text));
  }
  const std::string_view key = std::string_view(override_text).substr(0, equals);
  const std::string value = override_text.substr(equals + 1);
  const std::string source = std::string(kOverrideSource) + Shown(override_text);
  if (static_cast<size_t>(std::count(key.begin(), key.end(), '.')) > kMaxDots) {
    return Fail(ErrorCode::kInvalidArgument, "{}: the key is too deep", source);
  }
  Result<toml::table> parsed = ParseToml("v = " + value, source);
  if (!parsed || parsed->size() != 1 || !parsed->contains("v")) {
    // A string that the shell took the quotes of.
    if (value.find_first_of("\"'\n\r[]{}=") != std::string::npos || value.empty()) {
      return Fail(ErrorCode::kInvalidArgument, "{}: the value is not TOML", source);
    }
    parsed = ParseToml("v = '" + value + "'", source);
    if (!parsed) return std::unexpected(parsed.error());
  }

  toml::node* at = &document;
  size_t begin = 0;
  while (true) {
    const size_t end = std::min(key.find('.', begin), key.size());
    const std::string part(key.substr(begin, end - begin));
    const bool last = end == key.size();
    if (part.empty()) return Fail(ErrorCode::kInvalidArgument, "{}: an empty part in the key", source);
    toml::node* next = nullptr;
    if (toml::array* array = at->as_array()) {
      size_t index = 0;
      const auto [rest, error] = std::from_chars(part.data(), part.data() + part.size(), index);
      if (error != std::errc() || rest != part.data() + part.size() || index >= array->size()) {
        return Fail(ErrorCode::kInvalidArgument, "{}: {} is no index of a list of {}", source, Shown(part),
                    array->size());
      }
      next = array->get(index);
      if (last) return Fail(ErrorCode::kInvalidArgument, "{}: name a key of the list's element", source);
    } else if (toml::table* table = at->as_table()) {
      if (last) {
        toml::node* node = parsed->get("v");
        node->visit([&](auto&& concrete) { table->insert_or_assign(part, std::move(concrete)); });
        return {};
      }
      next = table->get(part);
      if (next == nullptr) {
        table->insert(part, toml::table{});
        next = table->get(part);
      }
    } else {
      return Fail(ErrorCode::kInvalidArgument, "{}: {} is {}, not a table", source, Shown(key.substr(0, begin - 1)),
                  TypeName(*at));
    }
    at = next;
    begin = end + 1;
  }
}

std::string_view NearestName(std::string_view name, const std::vector<std::string_view>& known) {
  std::string_view best;
  if (name.size() > 64) return best;
  size_t best_distance = std::max<size_t>(1, std::min<size_t>(4, name.size() / 3)) + 1;
  for (const std::string_view candidate : known) {
    const size_t distance = EditDistance(name, candidate);
    if (distance < best_distance) best = candidate, best_distance = distance;
  }
  return best;
}

void TomlErrors::Set(const toml::node* node, std::string message) {
  if (first) return;
  std::string where = source;
  if (node != nullptr && FromOverride(*node)) where = *node->source().path;
  else if (node != nullptr && node->source().begin.line > 0) where += fmt::format(": line {}", node->source().begin.line);
  first = Error{ErrorCode::kInvalidArgument, where + ": " + message};
}

void TomlSection::Wrong(std::string_view key, const toml::node& node, std::string_view wanted) {
  errors_.Set(&node, fmt::format("{} is {}; it takes {}", Name(key), TypeName(node), wanted));
}

void TomlSection::Fail(std::string_view key, std::string message) {
  const toml::node* node = table_ == nullptr || key.empty() ? table_ : table_->get(key);
  errors_.Set(node != nullptr ? node : table_, std::move(message));
}

const toml::node* TomlSection::Find(std::string_view key) {
  known_.push_back(key);
  return table_ == nullptr ? nullptr : table_->get(key);
}

void TomlSection::Read(std::string_view key, int64_t& out, int64_t low, int64_t high) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  if (!node->is_integer()) return Wrong(key, *node, "an integer");
  const int64_t value = node->as_integer()->get();
  if (value < low || value > high) {
    return errors_.Set(node, fmt::format("{} is {}; {} to {} is possible", Name(key), value, low, high));
  }
  out = value;
}

void TomlSection::Read(std::string_view key, int32_t& out, int64_t low, int64_t high) {
  int64_t value = out;
  Read(key, value, low, std::min<int64_t>(high, INT32_MAX));
  out = static_cast<int32_t>(value);
}

void TomlSection::Read(std::string_view key, double& out, double low, double high) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  if (!node->is_number()) return Wrong(key, *node, "a number");
  const double value =
      node->is_integer() ? static_cast<double>(node->as_integer()->get()) : node->as_floating_point()->get();
  if (!(value >= low && value <= high)) {  // also refuses NaN
    return errors_.Set(node, fmt::format("{} is {}; {} to {} is possible", Name(key), value, low, high));
  }
  out = value;
}

void TomlSection::Read(std::string_view key, float& out, double low, double high) {
  double value = static_cast<double>(out);
  Read(key, value, low, high);
  out = static_cast<float>(value);
}

void TomlSection::Read(std::string_view key, bool& out) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  if (!node->is_boolean()) return Wrong(key, *node, "true or false");
  out = node->as_boolean()->get();
}

void TomlSection::Read(std::string_view key, std::string& out) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  if (!node->is_string()) return Wrong(key, *node, "a string");
  out = node->as_string()->get();
  if (out.find('\0') != std::string::npos) errors_.Set(node, fmt::format("{} has a zero byte", Name(key)));
}

void TomlSection::Read(std::string_view key, std::vector<std::string>& out) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  out.clear();
  if (node->is_string()) {
    known_.pop_back();
    return Read(key, out.emplace_back());
  }
  if (!node->is_array()) return Wrong(key, *node, "a list of strings");
  for (const toml::node& element : *node->as_array()) {
    if (!element.is_string()) return Wrong(key, element, "a list of strings");
    out.push_back(element.as_string()->get());
    if (out.back().find('\0') != std::string::npos) errors_.Set(&element, fmt::format("{} has a zero byte", Name(key)));
  }
}

void TomlSection::Read(std::string_view key, int& index, const std::vector<std::string_view>& names) {
  const toml::node* node = Find(key);
  if (node == nullptr) return;
  if (!node->is_string()) return Wrong(key, *node, "a string");
  const std::string& value = node->as_string()->get();
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == value) {
      index = static_cast<int>(i);
      return;
    }
  }
  errors_.Set(node, fmt::format("{} is \"{}\"; possible are {}", Name(key), Shown(value), fmt::join(names, ", ")));
}

void TomlSection::Require(std::string_view key) {
  if (table_ != nullptr && table_->contains(key)) return;
  errors_.Set(table_, fmt::format("{} is missing", Name(key)));
}

TomlSection TomlSection::Sub(std::string_view key) {
  const toml::node* node = Find(key);
  if (node != nullptr && !node->is_table()) Wrong(key, *node, fmt::format("a table: [{}]", Name(key)));
  return {node == nullptr ? nullptr : node->as_table(), Name(key), errors_};
}

std::vector<TomlSection> TomlSection::Array(std::string_view key) {
  std::vector<TomlSection> out;
  const toml::node* node = Find(key);
  if (node == nullptr) return out;
  if (!node->is_array()) {
    Wrong(key, *node, fmt::format("a list of tables: [[{}]]", Name(key)));
    return out;
  }
  for (const toml::node& element : *node->as_array()) {
    if (!element.is_table()) {
      Wrong(key, element, fmt::format("a list of tables: [[{}]]", Name(key)));
      return out;
    }
    out.emplace_back(element.as_table(), fmt::format("{}[{}]", Name(key), out.size()), errors_);
  }
  return out;
}

void TomlSection::RefuseUnknown() {
  if (table_ == nullptr || errors_.first) return;
  // The first in the file, not in the alphabet.
  const toml::node* unknown = nullptr;
  std::string_view name;
  for (const auto& [key, node] : *table_) {
    if (std::find(known_.begin(), known_.end(), key.str()) != known_.end()) continue;
    if (unknown == nullptr || (!FromOverride(node) && node.source().begin < unknown->source().begin)) {
      unknown = &node;
      name = key.str();
    }
  }
  if (unknown == nullptr) return;
  std::string message = fmt::format("{} is not a key of {}", Name(Shown(name)), errors_.document);
  if (const std::string_view near = NearestName(name, known_); !near.empty()) {
    message += fmt::format("; did you mean {}?", near);
  } else {
    message += fmt::format("; here are {}", fmt::join(known_, ", "));
  }
  errors_.Set(unknown, std::move(message));
}

}  // namespace fathom
