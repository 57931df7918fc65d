#include "train/torch/ranks.h"

#include <fmt/format.h>

#include <chrono>
#include <string>

// c10d's gloo group needs gloo's own headers, which Debian has and PyPI's libtorch has not; its NCCL group needs NCCL's
// and is compiled only when asked for (-DFATHOM_NCCL=ON, cmake/FathomTrainer.cmake).
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

#if defined(FATHOM_GLOO) || defined(FATHOM_NCCL)

constexpr std::chrono::seconds kJoinTimeout{120};

c10::intrusive_ptr<c10d::Store> MakeStore(const LaunchPlace& place) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = place.rank == 0;
  options.numWorkers = static_cast<size_t>(place.size);
  options.waitWorkers = true;
  options.timeout = std::chrono::duration_cast<std::chrono::milliseconds>(kJoinTimeout);
  return c10::make_intrusive<c10d::PrefixStore>("fathom", c10::make_intrusive<c10d::TCPStore>(place.address, options));
}

/// Any of c10d's groups; they share names but, between versions of libtorch, no base class.
template <typename Group>
class GroupRanks : public Ranks {
 public:
  GroupRanks(c10::intrusive_ptr<Group> group, const LaunchPlace& place) : group_(std::move(group)), place_(place) {}

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
  LaunchPlace place_;
};

#endif

Result<std::unique_ptr<Ranks>> JoinGroup(const LaunchPlace& place, const at::Device& device) {
#if defined(FATHOM_GLOO)
  if (device.is_cpu()) {
    auto options = c10d::ProcessGroupGloo::Options::create();
    options->devices.push_back(place.on_one_machine() ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
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
  const char* how = device.is_cpu()
                        ? "Build with Debian's libtorch-dev and libgloo-dev; PyPI's libtorch has no headers of gloo."
                        : "Build with -DFATHOM_NCCL=ON, a libtorch for this device, and NCCL's headers "
                          "(docs/training.md).";
  return Fail(ErrorCode::kUnsupported, "{} ranks on {}: this build has no c10d group for it\n{}", place.size,
              device.str(), how);
}

}  // namespace

std::unique_ptr<Ranks> MakeSingleRank() { return std::make_unique<SingleRank>(); }

Result<std::unique_ptr<Ranks>> JoinRanks(const LaunchPlace& place, const at::Device& device) {
  if (place.size == 1) return MakeSingleRank();
  try {
    return JoinGroup(place, device);
  } catch (const std::exception& error) {
    const std::string what(error.what());
    return Fail(ErrorCode::kIo, "rank {} of {} could not join the others at {}:{}: {}\nIs the port taken? "
                "FATHOM_MASTER_PORT names another one, for all ranks.", place.rank, place.size, place.address,
                place.port, what.substr(0, what.find('\n')));
  }
}

}  // namespace fathom::train
