#include "cli/option_checks.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "cli/terminal.h"
#include "text/unicode.h"

namespace fathom {
namespace {

/// Empty when `input` is such a number, in decimal digits without zeros before them: CLI11 would read those as octal.
template <typename T>
std::string CheckNumber(const std::string& input, T low, T high) {
  const char* first = input.data() + (input.starts_with('+') ? 1 : 0);
  const char* last = input.data() + input.size();
  T value = 0;
  const auto [end, error] = std::from_chars(first, last, value);
  const bool octal = input.find_first_not_of("+-0") != std::string::npos && input[input.find_first_not_of("+-")] == '0';
  if (first == last || octal || error != std::errc() || end != last || value < low || value > high) {
    return fmt::format("'{}' is not a whole number from {} to {}", OneLine(input, 40), low, high);
  }
  return {};
}

}  // namespace

CLI::Validator WholeNumber(int64_t low, int64_t high) {
  return {[=](std::string& input) { return CheckNumber(input, low, high); }, fmt::format("INT in [{} - {}]", low, high)};
}

CLI::Validator NotEmpty(const std::string& instead) {
  return {[=](std::string& input) { return input.empty() ? "is empty; " + instead : std::string(); }, ""};
}

CLI::Validator ModelName() { return NotEmpty("name a model, or leave the option out for the default one"); }

CLI::Option* AddSeed(CLI::App& app, const std::string& names, uint64_t& seed, const std::string& help) {
  return app.add_option(names, seed, help)->capture_default_str()->check(CLI::Validator(
      [](std::string& input) { return CheckNumber(input, uint64_t{0}, std::numeric_limits<uint64_t>::max()); }, ""));
}

Status CheckUtf8(const std::string& option, const std::string& text) {
  if (IsValidUtf8(text)) return {};
  return Fail(ErrorCode::kInvalidArgument, "{} '{}': not valid UTF-8, as every answer is, so it would never be found", option,
              OneLine(text, 40));
}

}  // namespace fathom
