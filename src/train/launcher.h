// Who this process is among the ranks of a run, from what the launcher put into the environment. Pure: no socket, no file.
//
// Understood are torchrun (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT; pytorch.org,
// "torchrun (Elastic Launch)"), Open MPI (OMPI_COMM_WORLD_*), launchers that speak PMI (PMI_RANK, PMI_SIZE, and Hydra's
// MPI_LOCALRANKID, MPI_LOCALNRANKS) and Slurm's srun (SLURM_*). The first whose rank is set counts; MASTER_ADDR and
// MASTER_PORT are read whatever the launcher. A variable that is set to nothing is not set.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/result.h"

namespace fathom::train {

struct LaunchPlace {
  std::string launcher;             // "torchrun", "mpirun" or "srun"; empty: one process, started by hand
  int rank = 0, size = 1;           // among all ranks, and how many
  std::optional<int> local_rank;    // among those of this machine, where the launcher says
  std::optional<int> local_size;    // how many this machine has
  // Where rank 0 serves the store by which the ranks find each other; 127.0.0.1 when all are on one machine.
  std::string address = "127.0.0.1";
  int port = 29500;                 // 1 to 65535

  bool on_one_machine() const;
};

/// What getenv gives: null where the variable is not set.
using EnvironmentLookup = std::function<const char*(const char* name)>;

/// The port of our store. A torchrun whose agent serves a store of its own (TORCHELASTIC_USE_AGENT_STORE=True) holds
/// MASTER_PORT, in a protocol that changes between versions of libtorch; ours then takes 10000 + MASTER_PORT % 20000,
/// which is below the ports that systems hand out and never MASTER_PORT itself. FATHOM_MASTER_PORT overrides both.
/// Errors: kInvalidArgument for a rank without a size or outside it, for what is no number or no port, and for ranks on
/// several machines that are not told rank 0's (MASTER_ADDR); the message names the variables.
Result<LaunchPlace> ParseLauncher(const EnvironmentLookup& lookup);

/// ParseLauncher of this process's environment.
Result<LaunchPlace> FindPlace();

}  // namespace fathom::train
