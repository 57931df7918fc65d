#include "tasks/problem.h"

#include <array>

namespace fathom {
namespace {
constexpr std::array<TaskFamily, 1> kFamilies = {{{"arithmetic", "numbers of several digits"}}};
}  // namespace
std::span<const TaskFamily> TaskFamilies() { return kFamilies; }
}  // namespace fathom
