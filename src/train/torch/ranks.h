// The processes that train one model together. One rank alone is the normal case and needs no library.
//
// All calls are collective: every rank makes them in the same order. Failures of a peer end in c10::Error, which the
// trainer catches around a step.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "base/result.h"
#include "train/launcher.h"

namespace fathom::train {

class Ranks {
 public:
  virtual ~Ranks() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Sums `x` over all ranks, in place.
  virtual void Sum(at::Tensor& x) = 0;
  /// `x` of rank 0 to all, in place.
  virtual void Broadcast(at::Tensor& x) = 0;
  /// Rows of `x` to the other ranks: send[r] rows, in order, to rank r; receive[r] rows come from rank r, in order.
  virtual at::Tensor AllToAll(const at::Tensor& x, const std::vector<int64_t>& send,
                              const std::vector<int64_t>& receive) = 0;
  virtual void Barrier() = 0;

  bool alone() const { return size() == 1; }
};

/// One process.
std::unique_ptr<Ranks> MakeSingleRank();

/// Waits, up to two minutes, until all ranks of the launch are there. `device`: where their tensors will be; gloo joins
/// CPUs, NCCL the rest. Errors: kUnsupported where this build's libtorch has no c10d for the device, kIo when the others
/// do not come.
Result<std::unique_ptr<Ranks>> JoinRanks(const LaunchPlace& place, const at::Device& device);

}  // namespace fathom::train
