// fathom train: starts the trainer, a program of its own beside this one (it needs libtorch, this one must not).
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/command.h"
#include "cli/train_options.h"
#include "io/env.h"

namespace fathom {
namespace {

Result<std::string> OwnFolder() {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0 || length == sizeof(path)) return Fail(ErrorCode::kInternal, "this program's own path is unknown");
  return DirectoryOf(std::string(path, length));
}

std::vector<std::string> Words(const TrainCommand& command) {
  std::vector<std::string> words = {"fathom-train", command.recipe, "--device", command.device,
                                    "--threads", std::to_string(command.threads)};
  for (const std::string& pair : command.overrides) words.insert(words.end(), {"--set", pair});
  if (!command.init_from.empty()) words.insert(words.end(), {"--init-from", command.init_from});
  if (command.steps > 0) words.insert(words.end(), {"--steps", std::to_string(command.steps)});
  if (command.restart) words.push_back("--restart");
  if (command.quiet) words.push_back("--quiet");
  return words;
}

Status RunTrain(const TrainCommand& command) {
  FATHOM_TRY(const std::string folder, OwnFolder());
  const std::string program = JoinPath(folder, "fathom-train");
  std::vector<std::string> words = Words(command);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  if (errno == ENOENT) {
    return Fail(ErrorCode::kUnsupported,
                "the trainer is not built here: it needs libtorch\n"
                "Install the packages of tools/packages-train.txt and build again ('./run train …' does both), or "
                "point CMAKE_PREFIX_PATH to a newer libtorch.");
  }
  return Fail(ErrorCode::kIo, "{}: cannot be started: {}", program, std::strerror(errno));
}

}  // namespace

void RegisterTrain(CLI::App& app, Action& selected) {
  auto command = std::make_shared<TrainCommand>();
  CLI::App* sub = app.add_subcommand("train", "");
  DescribeTrain(*sub, *command);
  sub->callback([command, &selected] { selected = [command] { return RunTrain(*command); }; });
}

}  // namespace fathom
