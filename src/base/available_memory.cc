#include "base/available_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string_view>

namespace fathom {
namespace {

// What version 1 says where there is no limit is some pages below 2^63.
constexpr int64_t kNoLimit = int64_t{1} << 60;

/// Nothing where there is no such file, or words ("max").
std::optional<int64_t> Number(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (!(file >> value)) return std::nullopt;
  return value;
}

/// The value behind `key` in lines "key value"; 0 when it is not there.
int64_t Entry(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::string name;
  for (int64_t value = 0; file >> name >> value; file.ignore(100, '\n'))
    if (name == key) return value;
  return 0;
}

struct Group {
  std::string mount, path;  // path: "" or "/a/b"
  const char *limit, *usage, *inactive, *active;
};

/// The group whose limits count. Version 1 has lines "4:memory:/a/b", version 2 the one line "0::/a/b".
std::optional<Group> FindGroup(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  std::optional<Group> found;
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    // Of another namespace: what can be seen of it lies at the mount's root.
    if (path.find("..") != std::string::npos || path == "/") path.clear();
    if (controllers.find(",memory,") != std::string::npos) {
      return Group{root + "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes",
                   "total_inactive_file", "total_active_file"};
    }
    if (controllers == ",,")
      found = {root + "/sys/fs/cgroup", path, "memory.max", "memory.current", "inactive_file", "active_file"};
  }
  return found;
}

}  // namespace

int64_t AvailableMemory(const std::string& root) {
  int64_t available = Entry(root + "/proc/meminfo", "MemAvailable:") * 1024;
  std::optional<Group> group = FindGroup(root);
  while (group) {
    const std::string folder = group->mount + group->path + "/";
    const auto limit = Number(folder + group->limit), usage = Number(folder + group->usage);
    if (limit && usage && *limit >= 0 && *limit < kNoLimit) {
      const int64_t files = Entry(folder + "memory.stat", group->inactive) + Entry(folder + "memory.stat", group->active);
      const int64_t left = std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - files));
      available = available > 0 ? std::min(available, left) : left;
    }
    if (group->path.empty()) break;
    group->path.erase(group->path.rfind('/'));
  }
  return available;
}

}  // namespace fathom
