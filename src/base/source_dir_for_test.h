// Where a test finds the repository's fixtures: the folder above the test program that holds CMakePresets.json. Asked when
// the test runs and not compiled in, so that clones in other folders share a compiler cache.
#pragma once

#include <filesystem>
#include <string>

namespace fathom {

/// The root of the repository that this program was built in, without a slash at its end; the working folder where it
/// lies in none.
inline std::string SourceDirForTest() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  for (auto folder = program.parent_path(); folder.has_relative_path(); folder = folder.parent_path())
    if (std::filesystem::exists(folder / "CMakePresets.json", error)) return folder.string();
  return ".";
}

}  // namespace fathom
