// What options take, checked alike in all commands and refused in words: the value, what is wrong with it, what would do.
//
// Thread-safe: plain values.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace fathom {

/// A whole number in decimal digits (no zeros before it, as of an octal one), from low to high.
CLI::Validator WholeNumber(int64_t low, int64_t high);
/// Anything but an empty text; `instead` says what to do.
CLI::Validator NotEmpty(const std::string& instead);
/// For options that name a model: an empty name is a script's unset variable, not a wish for the default model.
CLI::Validator ModelName();

/// An option for a seed: every whole number that 64 bits hold, others are refused.
CLI::Option* AddSeed(CLI::App& app, const std::string& names, uint64_t& seed, const std::string& help);

/// Of text that an option names and that answers are compared with. Errors: kInvalidArgument.
Status CheckUtf8(const std::string& option, const std::string& text);

}  // namespace fathom
