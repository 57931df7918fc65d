#include "experts/routing_observer.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

namespace fathom {
namespace {

constexpr int64_t kLayerLag = 101;

class Recorder final : public RoutingObserver {
 public:
  Recorder(const ExpertGeometry& geometry, std::unique_ptr<RoutingWriter> writer)
      : geometry_(geometry), writer_(std::move(writer)) {}

  bool OnRouted(int32_t layer, int64_t tokens, std::span<int32_t> ids) override {
    if (layer == 0) pass_.clear();
    pass_.insert(pass_.end(), ids.begin(), ids.end());
    const bool whole = static_cast<int64_t>(pass_.size()) == tokens * geometry_.layers * geometry_.top_k;
    if (layer == geometry_.layers - 1 && whole && status_) status_ = writer_->Append(static_cast<int32_t>(tokens), pass_);
    return false;
  }
  Status Finish() override {
    return status_ ? writer_->Finish() : status_;
  }

 private:
  const ExpertGeometry geometry_;
  const std::unique_ptr<RoutingWriter> writer_;
  std::vector<int32_t> pass_;
  Status status_;
};

class Replayer final : public RoutingObserver {
 public:
  Replayer(const ExpertGeometry& geometry, RoutingTrace trace, double guesses_right)
      : geometry_(geometry), trace_(std::move(trace)), guesses_right_(guesses_right) {}

  bool OnRouted(int32_t layer, int64_t tokens, std::span<int32_t> ids) override {
    if (layer == 0) first_ = std::exchange(next_, (next_ + tokens) % trace_.tokens());
    Choices(layer, tokens, ids);
    return true;
  }

  bool OnGuessed(int32_t layer, int32_t ahead, int64_t tokens, std::span<int32_t> ids) override {
    Choices(layer, tokens, ids);
    const double right = std::pow(guesses_right_, ahead);
    std::uniform_real_distribution<double> chance(0, 1);
    std::uniform_int_distribution<int32_t> any(0, geometry_.experts - 1);
    for (int64_t t = 0; t < tokens; ++t) {
      const auto row = ids.subspan(t * geometry_.top_k, geometry_.top_k);
      for (int32_t& id : row) {
        if (chance(random_) < right) continue;
        // One that the token does not choose, as far as there is any.
        int32_t wrong = any(random_);
        for (int32_t tries = 0; tries < geometry_.experts && std::ranges::find(row, wrong) != row.end(); ++tries)
          wrong = (wrong + 1) % geometry_.experts;
        id = wrong;
      }
    }
    return true;
  }

 private:
  void Choices(int32_t layer, int64_t tokens, std::span<int32_t> ids) const {
    const int32_t from = layer % trace_.geometry.layers;
    const int64_t lag = layer / trace_.geometry.layers * kLayerLag;
    for (int64_t t = 0; t < tokens; ++t) {
      const auto chosen = trace_.Of((first_ + t + lag) % trace_.tokens(), from);
      for (int32_t k = 0; k < geometry_.top_k; ++k) ids[t * geometry_.top_k + k] = chosen[k];
    }
  }

  const ExpertGeometry geometry_;
  const RoutingTrace trace_;
  const double guesses_right_;
  std::mt19937_64 random_{1};
  int64_t first_ = 0, next_ = 0;
};

}  // namespace

std::unique_ptr<RoutingObserver> MakeRoutingRecorder(const ExpertGeometry& geometry,
                                                     std::unique_ptr<RoutingWriter> writer) {
  return std::make_unique<Recorder>(geometry, std::move(writer));
}

Result<std::unique_ptr<RoutingObserver>> MakeRoutingReplayer(const ExpertGeometry& geometry, RoutingTrace trace,
                                                             double guesses_right) {
  if (!(guesses_right >= 0 && guesses_right <= 1))
    return Fail(ErrorCode::kInvalidArgument, "a share of {} of the guesses right is not in [0, 1]", guesses_right);
  if (trace.tokens() == 0) return Fail(ErrorCode::kInvalidArgument, "the routing record holds no tokens");
  if (trace.geometry.experts != geometry.experts || trace.geometry.top_k < geometry.top_k) {
    return Fail(ErrorCode::kInvalidArgument,
                "the routing record chooses {} of {} experts, the model {} of {}: replaying needs the same number of "
                "experts and no fewer choices", trace.geometry.top_k, trace.geometry.experts, geometry.top_k,
                geometry.experts);
  }
  return std::make_unique<Replayer>(geometry, std::move(trace), guesses_right);
}

}  // namespace fathom
