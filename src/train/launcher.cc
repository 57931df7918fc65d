#include "train/launcher.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>

namespace fathom::train {
namespace {

struct Launcher {
  const char *name, *rank, *size, *local_rank, *local_size;
};

// torchrun first: it may itself have been started by srun. srun last: Slurm's variables are seen by whatever runs inside
// an allocation.
constexpr Launcher kLaunchers[] = {
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
    {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", nullptr},
    {"srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", nullptr}};

class Environment {
 public:
  explicit Environment(const EnvironmentLookup& lookup) : lookup_(lookup) {}

  std::optional<std::string> Text(const char* name) const {
    const char* text = name == nullptr ? nullptr : lookup_(name);
    if (text == nullptr || *text == '\0') return std::nullopt;
    return text;
  }

  Result<std::optional<int>> Number(const char* name) const {
    const auto text = Text(name);
    if (!text) return std::nullopt;
    int value = 0;
    const char* end = text->data() + text->size();
    const auto [rest, error] = std::from_chars(text->data(), end, value);
    if (error != std::errc() || rest != end) {
      return Fail(ErrorCode::kInvalidArgument, "{}={}: a whole number is wanted", name, *text);
    }
    return value;
  }

  Result<std::optional<int>> Port(const char* name) const {
    FATHOM_TRY(const std::optional<int> port, Number(name));
    if (port && (*port < 1 || *port > 65535)) {
      return Fail(ErrorCode::kInvalidArgument, "{}={}: a port from 1 to 65535 is wanted", name, *port);
    }
    return port;
  }

 private:
  const EnvironmentLookup& lookup_;
};

/// Slurm's tasks by node, "4(x2),1" for three nodes: those of node `node`; nothing where it does not say.
std::optional<int> TasksOfNode(std::string_view text, int node) {
  while (!text.empty() && node >= 0) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    int tasks = 0, nodes = 1;
    const char* end = item.data() + item.size();
    auto [rest, error] = std::from_chars(item.data(), end, tasks);
    if (error != std::errc()) return std::nullopt;
    if (rest != end) {
      if (!std::string_view(rest, end).starts_with("(x")) return std::nullopt;
      const auto [close, bad] = std::from_chars(rest + 2, end, nodes);
      if (bad != std::errc() || std::string_view(close, end) != ")" || nodes < 1) return std::nullopt;
    }
    if (node < nodes) return tasks;
    node -= nodes;
  }
  return std::nullopt;
}

Status FindRank(const Environment& env, LaunchPlace& place) {
  for (const Launcher& launcher : kLaunchers) {
    // A plain process in a Slurm allocation has the size but no rank: it was not started by srun.
    if (std::string_view(launcher.name) == "srun" && !(env.Text(launcher.rank) && env.Text(launcher.size))) continue;
    FATHOM_TRY(const std::optional<int> rank, env.Number(launcher.rank));
    FATHOM_TRY(const std::optional<int> size, env.Number(launcher.size));
    if (!rank && !size) continue;
    if (!rank || !size || *size < 1 || *rank < 0 || *rank >= *size) {
      return Fail(ErrorCode::kInvalidArgument, "{} and {} do not agree: start the ranks with {}, or unset both",
                  launcher.rank, launcher.size, launcher.name);
    }
    place.launcher = launcher.name;
    place.rank = *rank;
    place.size = *size;
    FATHOM_TRY(place.local_rank, env.Number(launcher.local_rank));
    FATHOM_TRY(place.local_size, env.Number(launcher.local_size));
    if (!place.local_rank) {
      FATHOM_TRY(place.local_rank, env.Number("LOCAL_RANK"));
    }
    if (place.launcher == "srun") {
      FATHOM_TRY(const std::optional<int> node, env.Number("SLURM_NODEID"));
      auto tasks = env.Text("SLURM_STEP_TASKS_PER_NODE");
      if (!tasks) tasks = env.Text("SLURM_TASKS_PER_NODE");
      if (node && tasks) place.local_size = TasksOfNode(*tasks, *node);
    }
    if ((place.local_rank && *place.local_rank < 0) || (place.local_size && *place.local_size < 1) ||
        (place.local_rank && *place.local_rank >= place.local_size.value_or(place.size))) {
      return Fail(ErrorCode::kInvalidArgument, "local rank {} of {} on this machine, rank {} of {}: they do not agree\n"
                  "Start the ranks with {}, or unset what it sets.", place.local_rank.value_or(0),
                  place.local_size.value_or(place.size), place.rank, place.size, place.launcher);
    }
    return {};
  }
  return {};
}

}  // namespace

bool LaunchPlace::on_one_machine() const {
  return address == "127.0.0.1" || address == "localhost";
}

Result<LaunchPlace> ParseLauncher(const EnvironmentLookup& lookup) {
  const Environment env(lookup);
  LaunchPlace place;
  FATHOM_CHECK_OK(FindRank(env, place));
  if (place.size == 1) return place;

  const auto address = env.Text("MASTER_ADDR");
  if (!address && place.local_size && *place.local_size < place.size) {
    return Fail(ErrorCode::kInvalidArgument, "{} ranks on several machines: where is rank 0?\nSet MASTER_ADDR to the "
                "address of its machine for all ranks.", place.size);
  }
  // A host's own name need not lead back to it (containers), 127.0.0.1 does.
  if (address && place.local_size != place.size) place.address = *address;
  FATHOM_TRY(const std::optional<int> master, env.Port("MASTER_PORT"));
  FATHOM_TRY(const std::optional<int> own, env.Port("FATHOM_MASTER_PORT"));
  if (master) place.port = *master;
  const bool agent = env.Text("TORCHELASTIC_USE_AGENT_STORE") == "True";
  if (agent && own && own == master) {
    return Fail(ErrorCode::kInvalidArgument, "FATHOM_MASTER_PORT={}: there torchrun's agent serves its own store "
                "(MASTER_PORT); choose another port", *own);
  }
  if (agent) place.port = 10000 + place.port % 20000;
  if (own) place.port = *own;
  return place;
}

Result<LaunchPlace> FindPlace() {
  return ParseLauncher([](const char* name) { return std::getenv(name); });
}

}  // namespace fathom::train
