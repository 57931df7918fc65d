#include "train/torch/ranks.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>

// c10d's gloo group needs gloo's own headers, which Debian has and PyPI's libtorch has not; its NCCL group needs NCCL's.
#if __has_include(<gloo/context.h>)
#define FATHOM_GLOO 1
#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO
#endif
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif
#if defined(FATHOM_NCCL)
#ifndef USE_C10D_NCCL
#define USE_C10D_NCCL
#endif
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif

namespace fathom::train {
namespace {

class SingleRank : public Ranks {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void Sum(at::Tensor&) override {}
  void Broadcast(at::Tensor&) override {}
  at::Tensor AllToAll(const at::Tensor& x, const std::vector<int64_t>&, const std::vector<int64_t>&) override {
    return x;
  }
  void Barrier() override {}
};

/// Who we are, as the launcher says.
struct Place {
  int rank = 0, size = 1;
  std::string address = "127.0.0.1";
  int port = 29500;
  bool agent_store = false;  // torchrun's agent already serves the store
};

std::optional<int> EnvInt(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  int value = 0;
  const char* end = text + std::char_traits<char>::length(text);
  const auto [rest, error] = std::from_chars(text, end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

Result<Place> FindPlace() {
  struct Launcher {
    const char *name, *rank, *size;
  };
  constexpr Launcher kLaunchers[] = {{"torchrun", "RANK", "WORLD_SIZE"},
                                     {"mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                     {"mpirun", "PMI_RANK", "PMI_SIZE"},
                                     {"srun", "SLURM_PROCID", "SLURM_NTASKS"}};
  Place place;
  for (const Launcher& launcher : kLaunchers) {
    const auto rank = EnvInt(launcher.rank), size = EnvInt(launcher.size);
    if (!rank && !size) continue;
    // Slurm sets its variables in plain allocations too; one task is one rank.
    if (!rank || !size || *size < 1 || *rank < 0 || *rank >= *size) {
      return Fail(ErrorCode::kInvalidArgument, "{} and {} do not agree: start the ranks with {}, or unset both",
                  launcher.rank, launcher.size, launcher.name);
    }
    place.rank = *rank;
    place.size = *size;
    break;
  }
  if (const char* address = std::getenv("MASTER_ADDR")) place.address = address;
  if (const auto port = EnvInt("MASTER_PORT")) place.port = *port;
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  place.agent_store = agent != nullptr && std::string(agent) == "True";
  return place;
}

#if defined(FATHOM_GLOO) || defined(FATHOM_NCCL)

constexpr std::chrono::seconds kJoinTimeout{120};

c10::intrusive_ptr<c10d::Store> MakeStore(const Place& place) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = place.rank == 0 && !place.agent_store;
  options.numWorkers = static_cast<size_t>(place.size);
  options.waitWorkers = !place.agent_store;
  options.timeout = std::chrono::duration_cast<std::chrono::milliseconds>(kJoinTimeout);
  return c10::make_intrusive<c10d::PrefixStore>("fathom", c10::make_intrusive<c10d::TCPStore>(place.address, options));
}

/// Any of c10d's groups; they share names but, between versions of libtorch, no base class.
template <typename Group>
class GroupRanks : public Ranks {
 public:
  GroupRanks(c10::intrusive_ptr<Group> group, const Place& place) : group_(std::move(group)), place_(place) {}

  int rank() const override { return place_.rank; }
  int size() const override { return place_.size; }

  void Sum(at::Tensor& x) override {
    std::vector<at::Tensor> tensors{x};
    group_->allreduce(tensors, c10d::AllreduceOptions())->wait();
  }
  void Broadcast(at::Tensor& x) override {
    std::vector<at::Tensor> tensors{x};
    group_->broadcast(tensors, c10d::BroadcastOptions())->wait();
  }
  at::Tensor AllToAll(const at::Tensor& x, const std::vector<int64_t>& send,
                      const std::vector<int64_t>& receive) override {
    auto sizes = x.sizes().vec();
    sizes[0] = 0;
    for (const int64_t rows : receive) sizes[0] += rows;
    at::Tensor out = at::empty(sizes, x.options());
    // Bits travel, not numbers: gloo knows no bf16.
    const auto bits = [](const at::Tensor& t) { return t.scalar_type() == at::kBFloat16 ? t.view(at::kHalf) : t; };
    at::Tensor from = bits(x), to = bits(out);
    std::vector<int64_t> to_splits = receive, from_splits = send;
    group_->alltoall_base(to, from, to_splits, from_splits, c10d::AllToAllOptions())->wait();
    return out;
  }
  void Barrier() override { group_->barrier(c10d::BarrierOptions())->wait(); }

 private:
  c10::intrusive_ptr<Group> group_;
  Place place_;
};

#endif

Result<std::unique_ptr<Ranks>> JoinGroup(const Place& place, const at::Device& device) {
#if defined(FATHOM_GLOO)
  if (device.is_cpu()) {
    auto options = c10d::ProcessGroupGloo::Options::create();
    const bool local = place.address == "127.0.0.1" || place.address == "localhost";
    options->devices.push_back(local ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                     : c10d::ProcessGroupGloo::createDefaultDevice());
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(MakeStore(place), place.rank, place.size, options);
    return std::make_unique<GroupRanks<c10d::ProcessGroupGloo>>(std::move(group), place);
  }
#endif
#if defined(FATHOM_NCCL)
  if (!device.is_cpu()) {
    auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(MakeStore(place), place.rank, place.size);
    return std::make_unique<GroupRanks<c10d::ProcessGroupNCCL>>(std::move(group), place);
  }
#endif
  return Fail(ErrorCode::kUnsupported,
              "{} ranks on {}: this build's libtorch came without the headers of c10d's group for it\nFor several "
              "ranks on CPUs build with Debian's libtorch-dev and libgloo-dev.", place.size, device.str());
}

}  // namespace

std::unique_ptr<Ranks> MakeSingleRank() { return std::make_unique<SingleRank>(); }

Result<std::unique_ptr<Ranks>> JoinRanks(const at::Device& device) {
  FATHOM_TRY(const Place place, FindPlace());
  if (place.size == 1) return MakeSingleRank();
  try {
    return JoinGroup(place, device);
  } catch (const std::exception& error) {
    const std::string what(error.what());
    return Fail(ErrorCode::kIo, "rank {} of {} could not join the others at {}:{}: {}", place.rank, place.size,
                place.address, place.port, what.substr(0, what.find('\n')));
  }
}

}  // namespace fathom::train
