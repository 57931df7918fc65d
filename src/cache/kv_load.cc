#include "cache/kv_load.h"

#include <algorithm>

namespace fathom {

bool BlockLoad::Arrived(int64_t first, int64_t count, const Status& status) {
  bool last;
  {
    std::lock_guard lock(sync_->mutex);
    if (status) {
      std::fill_n(ready_.begin() + first, count, true);
    } else if (!failed_) {
      failed_ = true;
      error_ = status.error();
    }
    left_ -= count;
    last = left_ == 0;
  }
  sync_->changed.notify_all();
  return last;
}

PrefixLoad::PrefixLoad(std::shared_ptr<LoadSync> sync, std::vector<Piece> pieces, int64_t tokens, double patience,
                       KvClock clock, std::function<void(double)> waited)
    : sync_(std::move(sync)),
      pieces_(std::move(pieces)),
      valid_tokens_(tokens),
      clock_(std::move(clock)),
      deadline_(clock_() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(patience))),
      waited_(std::move(waited)) {}

bool PrefixLoad::WaitLayer(int64_t layer) {
  using State = BlockLoad::State;
  std::unique_lock lock(sync_->mutex);
  if (layer < layers_there_) return true;
  const auto start = Clock::now();
  bool ok = true;
  for (Piece& piece : pieces_) {
    if (piece.first_token >= valid_tokens_) break;
    State state = State::kReady;
    for (int64_t l = layers_there_; l <= layer && state == State::kReady; ++l) {
      WaitUntil(sync_->changed, lock, clock_, deadline_, [&] { return piece.load->LayerState(l) != State::kWaiting; });
      state = piece.load->LayerState(l);
    }
    if (state == State::kReady) continue;
    valid_tokens_ = piece.first_token;
    ok = false;
    break;
  }
  // Whatever was lost, the pieces that stay have all layers up to this one.
  layers_there_ = layer + 1;
  lock.unlock();
  if (waited_) waited_(std::chrono::duration<double>(Clock::now() - start).count());
  return ok;
}

bool PrefixLoad::Done() const {
  std::lock_guard lock(sync_->mutex);
  return std::all_of(pieces_.begin(), pieces_.end(), [](const Piece& piece) { return piece.load->done_locked(); });
}

int64_t PrefixLoad::valid_tokens() const {
  std::lock_guard lock(sync_->mutex);
  return valid_tokens_;
}

}  // namespace fathom
