// Reading a TOML document field by field: types and ranges checked, unknown keys refused, every message with the line.
//
// The first error sticks; later reads do nothing, so that a whole document is read in one go and asked at the end.
// For recipes and other files of options; not thread-safe. toml++ is used header-only and without exceptions (Debian's shared library is
// built with them).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

#undef TOML_HEADER_ONLY
#undef TOML_SHARED_LIB
#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
// Version 3.3 asserts that a key begins well ("[#" does not) just before it checks that and says so.
#undef TOML_ASSERT
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>

namespace fathom {

/// The text as a TOML table; source: how messages call it; document: what it is. Errors: kInvalidArgument with line and
/// reason.
Result<toml::table> ParseToml(std::string_view text, const std::string& source,
                              std::string_view document = "a recipe");

/// Puts "key.sub=value" (value: TOML; what is no TOML value counts as a string) into the document. A part of the key
/// may be the index of an element of an array, from 0.
Status ApplyOverride(toml::table& document, const std::string& override_text);

/// True when the node was put in by ApplyOverride.
bool FromOverride(const toml::node& node);

/// The known name that a misspelt one most likely means; empty when none is near.
std::string_view NearestName(std::string_view name, const std::vector<std::string_view>& known);

/// What the sections of one document share.
struct TomlErrors {
  std::string source;
  std::string document = "a recipe";
  std::optional<Error> first = std::nullopt;
  void Set(const toml::node* node, std::string message);
};

class TomlSection {
 public:
  /// table may be null: every key is absent then. prefix: "model", "stage[0]", or empty for the document itself.
  TomlSection(const toml::table* table, std::string prefix, TomlErrors& errors)
      : table_(table), prefix_(std::move(prefix)), errors_(errors) {}

  // Each leaves `out` as it is when the key is absent. Ranges are inclusive.
  void Read(std::string_view key, int64_t& out, int64_t low, int64_t high);
  void Read(std::string_view key, int32_t& out, int64_t low, int64_t high);
  void Read(std::string_view key, double& out, double low, double high);
  void Read(std::string_view key, float& out, double low, double high);
  void Read(std::string_view key, bool& out);
  void Read(std::string_view key, std::string& out);
  void Read(std::string_view key, std::vector<std::string>& out);  // a string alone counts as a list of one
  /// One of `names`; the index of the one that is there.
  void Read(std::string_view key, int& index, const std::vector<std::string_view>& names);
  void Require(std::string_view key);

  /// The node, and the key is known from now on; nullptr when absent.
  const toml::node* Find(std::string_view key);
  /// [key]; a section whose table is null when absent.
  TomlSection Sub(std::string_view key);
  /// [[key]]; empty when absent.
  std::vector<TomlSection> Array(std::string_view key);

  /// To be called last: refuses keys that nobody asked for.
  void RefuseUnknown();

  bool present() const { return table_ != nullptr; }
  const toml::table* table() const { return table_; }
  std::string Name(std::string_view key) const {
    return prefix_.empty() ? std::string(key) : prefix_ + "." + std::string(key);
  }
  const std::string& prefix() const { return prefix_; }
  /// An error of this section, at a key of it (or the section itself where the key is absent).
  void Fail(std::string_view key, std::string message);

 private:
  void Wrong(std::string_view key, const toml::node& node, std::string_view wanted);

  const toml::table* table_;
  std::string prefix_;
  TomlErrors& errors_;
  std::vector<std::string_view> known_;
};

}  // namespace fathom
