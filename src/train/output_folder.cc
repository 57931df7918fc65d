#include "train/output_folder.h"

#include <unistd.h>

#include <span>

#include "io/env.h"

namespace fathom {
namespace {

Status WriteAndRemove(Env& env, const std::string& folder) {
  FATHOM_CHECK_OK(env.CreateDirectories(folder));
  // Two runs may look at one folder at once; neither must take the other's file for its own.
  const std::string path = JoinPath(folder, fmt::format(".writing-trial-{}", getpid()));
  if (env.Exists(path)) FATHOM_CHECK_OK(env.Remove(path));
  FATHOM_TRY(const auto file, env.Create(path));
  const Status written = file->Append(std::as_bytes(std::span("trial", 5)));
  const Status closed = file->Close();
  const Status removed = env.Remove(path);
  FATHOM_CHECK_OK(written);
  FATHOM_CHECK_OK(closed);
  return removed;
}

}  // namespace

Status TryOutputFolder(Env& env, const std::string& folder) {
  const Status status = WriteAndRemove(env, folder);
  if (status) return {};
  return Fail(status.error().code,
              "{}\nNothing could be kept of this run: choose another folder with --set output.path=FOLDER, or mend that "
              "one.", status.error().message);
}

}  // namespace fathom
