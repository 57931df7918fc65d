// Inside the room: what a family is made of. Each family's file offers its kinds; a kind is a function that fills a
// draft from random numbers and nothing else.
#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "tasks/random.h"

namespace fathom {

struct Draft {
  std::string question, thinking, answer;
  int choices = 0;  // how many answers the question itself offers (yes/no: 2; "which of these four": 4); 0: open
};

struct Kind {
  std::string_view name;
  void (*make)(Random& random, Draft& draft);
};

/// One of the wordings, with {0}, {1}… replaced by the arguments.
///
/// At most one argument of this or any other call may draw from `random`: C++ leaves the order in which arguments are
/// evaluated to the compiler, and the problems must not depend on it.
template <typename... Args>
std::string Say(Random& random, std::initializer_list<const char*> wordings, const Args&... args) {
  return fmt::format(fmt::runtime(random.Pick(wordings)), args...);
}

std::span<const Kind> ArithmeticKinds();
std::span<const Kind> PercentKinds();
std::span<const Kind> InterestKinds();
std::span<const Kind> UnitKinds();
std::span<const Kind> DateKinds();
std::span<const Kind> ComparisonKinds();
std::span<const Kind> SortingKinds();
std::span<const Kind> TableKinds();
std::span<const Kind> CountingKinds();
std::span<const Kind> StringKinds();
std::span<const Kind> LogicKinds();
std::span<const Kind> EligibilityKinds();
std::span<const Kind> CountdownKinds();

}  // namespace fathom
