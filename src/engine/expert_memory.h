// An engine's experts when they do not all stay in memory: the store that the model computes from, what is recorded or
// replayed at its gates, and heat kept between runs.
//
// Made after the model, destroyed after its last pass; saves heat and finishes a recording then, and warns in the log
// when that fails. One thread, but for stats().
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "engine/engine.h"
#include "experts/expert_store.h"
#include "experts/routing_observer.h"
#include "model/model.h"

namespace fathom {

struct ExpertSurroundings {
  int threads = 1;        // that the model computes with
  bool promised = false;  // of memory, the page cache included
  int64_t lent = 0;       // slots more while tokens are made one by one
  int64_t to_come = 0;    // bytes that will still be taken: keys and values, buffers, mapped weights that are not experts
};

class ExpertMemory {
 public:
  /// Ties itself to `model` (not at all when no option asks for it). Errors: kInvalidArgument (a dense model; too little
  /// memory, with what it takes), those of the store and of the routing record.
  static Result<std::unique_ptr<ExpertMemory>> Create(const ModelFile& file, Env& env, const EngineOptions& options,
                                                      Model& model, const ExpertSurroundings& around);
  ~ExpertMemory();
  ExpertMemory(const ExpertMemory&) = delete;
  ExpertMemory& operator=(const ExpertMemory&) = delete;

  /// The share of uses, by what was measured in earlier runs, that falls on as many experts as there are slots, lent ones
  /// too; -1: nothing was measured.
  double HotShareOfSlots() const { return hot_share_; }
  ExpertStore* store() const { return store_.get(); }  // nullptr: experts are used where they lie
  bool streams() const { return store_ != nullptr; }
  /// Rows for a piece of a prompt that would otherwise have `base`: what prefill_rows.h says, by rates measured so far.
  /// Thread-safe.
  int64_t PrefillRows(int64_t base) const;
  std::optional<ExpertStoreStats> stats() const {
    return store_ != nullptr ? std::optional(store_->stats()) : std::nullopt;
  }

 private:
  ExpertMemory(Env& env, Model& model, int threads) : env_(env), model_(model), threads_(threads) {}

  Env& env_;
  Model& model_;
  const int threads_;
  std::unique_ptr<ExpertStore> store_;
  std::unique_ptr<RoutingObserver> routing_;
  ExpertGeometry geometry_;
  std::array<std::byte, 32> fingerprint_{};
  std::string heat_path_;
  double hot_share_ = -1;
};

}  // namespace fathom
