// The words that questions are made of: few and common, so that a small model meets each one often.
#pragma once

#include <span>
#include <string_view>

namespace fathom {

std::span<const std::string_view> Names();      // of people
std::span<const std::string_view> Words();      // lower case, 3 to 8 letters; for tasks on letters
std::span<const std::string_view> ListWords();  // fewer of them, for tasks on lists: there whole words are answered
std::span<const std::string_view> Things();     // plural nouns that can be counted
std::span<const std::string_view> MadeUp();     // plural nouns that mean nothing

}  // namespace fathom
