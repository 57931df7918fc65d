// fathom version: what this build is.
#include <cstdio>

#include "cli/command.h"
#include "kernels/matmul.h"

namespace fathom {
namespace {

struct VersionOptions {};

Status RunVersion(const VersionOptions&) {
  std::printf("fathom %s\n", FATHOM_VERSION);
#if defined(__clang__)
  std::printf("compiler  clang %s\n", __clang_version__);
#else
  std::printf("compiler  gcc %s\n", __VERSION__);
#endif
  std::printf("kernels   %s\n", MatmulIsa());
  return {};
}

}  // namespace

void RegisterVersion(CLI::App& app, Action& selected) {
  AddCommand(app, selected, "version", "version, compiler and the kernels chosen for this processor", "",
             std::make_shared<VersionOptions>(), RunVersion);
}

}  // namespace fathom
