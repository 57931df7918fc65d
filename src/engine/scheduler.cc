#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cache/kv_store.h"

namespace fathom {
namespace {

constexpr int64_t kBlock = KvLayout::kBlockTokens;
constexpr int64_t kQuantum = 16;        // rows of prompts are handed out in pieces of this many
constexpr double kForget = 0.99;        // of what tenants have been served, every step
constexpr double kMostLag = 4096;       // rows that a tenant who was away can be behind
constexpr int32_t kTopLevel = 1 << 20;

int64_t Level(const SchedulerSequence& sequence) {
  const double aged = std::clamp(sequence.age_seconds / Scheduler::kAgingSeconds, 0.0, double{kTopLevel});
  return sequence.priority + static_cast<int64_t>(aged);
}

bool Before(const SchedulerSequence& a, const SchedulerSequence& b) {
  const int64_t level_a = Level(a), level_b = Level(b);
  return level_a != level_b ? level_a > level_b : a.arrival < b.arrival;
}

/// Blocks that `rows` more rows take.
int64_t BlocksFor(const SchedulerSequence& sequence, int64_t rows) {
  if (rows <= 0) return 0;
  const int64_t all = (sequence.held + rows + kBlock - 1) / kBlock;  // waiting: held is 0, wanted everything
  return std::max<int64_t>(0, all - sequence.blocks) + (sequence.shared_tail && sequence.held % kBlock != 0 ? 1 : 0);
}

/// The most rows, up to `rows`, that `free` blocks are enough for.
int64_t RowsFor(const SchedulerSequence& sequence, int64_t rows, int64_t free) {
  if (BlocksFor(sequence, rows) <= free) return rows;
  const int64_t copy = BlocksFor(sequence, 1) > 0 && sequence.held % kBlock != 0 && sequence.shared_tail ? 1 : 0;
  if (copy > free) return 0;
  return std::clamp<int64_t>((sequence.blocks + free - copy) * kBlock - sequence.held, 0, rows);
}

constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max() / 4;
int64_t Free(const SchedulerState& state) { return state.free_blocks < 0 ? kNoLimit : state.free_blocks; }

// A running sequence while a step is planned.
struct Place {
  const SchedulerSequence* sequence;
  int64_t rows = 0;
  bool parked = false;
};

// Memory while a step is planned: when a block is missing, places are parked from the back.
class Memory {
 public:
  Memory(int64_t free, std::vector<Place>& ranked) : free_(free), ranked_(ranked) {}

  /// Up to `rows` more rows for the place at `index`, parking those behind it as long as there is not room for even
  /// one. 0: there is none.
  int64_t Take(size_t index, int64_t rows) {
    Place& place = ranked_[index];
    for (;;) {
      if (const int64_t fit = Fit(place, rows); fit > 0) return Give(place, fit);
      size_t last = ranked_.size();
      while (last > index + 1 && (ranked_[last - 1].parked || Held(ranked_[last - 1]) == 0)) --last;
      if (last <= index + 1) return 0;
      Park(ranked_[last - 1]);
    }
  }
  void Park(Place& place) {
    free_ += Held(place);
    place.parked = true;
    place.rows = 0;
  }

 private:
  // With what this step has promised it.
  static int64_t Held(const Place& place) { return place.sequence->blocks + BlocksFor(*place.sequence, place.rows); }
  int64_t Fit(const Place& place, int64_t rows) const {
    const int64_t promised = BlocksFor(*place.sequence, place.rows);
    return RowsFor(*place.sequence, place.rows + rows, free_ + promised) - place.rows;
  }
  int64_t Give(Place& place, int64_t rows) {
    free_ -= BlocksFor(*place.sequence, place.rows + rows) - BlocksFor(*place.sequence, place.rows);
    place.rows += rows;
    return rows;
  }

  int64_t free_;
  std::vector<Place>& ranked_;
};

}  // namespace

double Scheduler::Served(int32_t tenant) const {
  const auto found = served_.find(tenant);
  return found == served_.end() ? 0 : found->second;
}

uint64_t Scheduler::Last(std::span<const SchedulerSequence> sequences) {
  const SchedulerSequence* last = nullptr;
  for (const SchedulerSequence& sequence : sequences) {
    if (sequence.running && (last == nullptr || Before(*last, sequence))) last = &sequence;
  }
  return last == nullptr ? 0 : last->id;
}

int64_t Scheduler::PrefillBudget(const SchedulerState& state, int64_t answers) {
  const int64_t room = std::max<int64_t>(1, state.step_tokens - answers);
  if (answers == 0) return room;
  if (state.answers_alone) return 0;
  const int64_t least = std::min(room, kLeastPrefill);
  if (state.decode_seconds <= 0 || state.prefill_row_seconds <= 0) {
    return std::clamp<int64_t>(state.step_tokens / 8, least, room);
  }
  const double seconds = kExtraShare * state.decode_seconds;
  double rows = seconds / state.prefill_row_seconds;
  // What was measured of few rows may be old where steps are of many.
  if (rows >= kManyRows && state.many_rows_seconds > 0) rows = std::max(kManyRows - 1.0, seconds / state.many_rows_seconds);
  return rows >= static_cast<double>(room) ? room : std::max(least, static_cast<int64_t>(rows));
}

Admission Scheduler::Admit(const SchedulerState& state, const SharesFn& shares) {
  Admission admission;
  std::vector<const SchedulerSequence*> waiting, running;
  std::map<int32_t, int32_t> places;  // by tenant
  int64_t free = Free(state);
  for (const SchedulerSequence& sequence : state.sequences) {
    if (!sequence.running) {
      waiting.push_back(&sequence);
      continue;
    }
    running.push_back(&sequence);
    ++places[sequence.tenant];
    free -= BlocksFor(sequence, sequence.wanted + 1);
  }
  std::sort(running.begin(), running.end(), [](auto* a, auto* b) { return Before(*a, *b); });
  while (!waiting.empty()) {
    const auto best = std::min_element(waiting.begin(), waiting.end(), [&](auto* a, auto* b) {
      const int64_t level_a = Level(*a), level_b = Level(*b);
      if (level_a != level_b) return level_a > level_b;
      if (a->tenant != b->tenant) {
        if (places[a->tenant] != places[b->tenant]) return places[a->tenant] < places[b->tenant];
        if (Served(a->tenant) != Served(b->tenant)) return Served(a->tenant) < Served(b->tenant);
      }
      return a->arrival < b->arrival;
    });
    const SchedulerSequence& candidate = **best;
    waiting.erase(best);
    const bool held_back = shares && std::any_of(running.begin(), running.end(), [&](const SchedulerSequence* leader) {
      return shares(candidate.id, leader->id);
    });
    if (held_back) continue;
    const int64_t need = BlocksFor(candidate, candidate.wanted + 1);
    const auto fits = [&](size_t places_taken, int64_t blocks) {
      return places_taken == 0 || (places_taken < static_cast<size_t>(std::max(1, state.max_sequences)) && need <= blocks);
    };
    // Somebody of lower standing makes room: by the priority that was asked for on one side and with its age on the
    // other, so that the same two do not change places again and again.
    size_t keep = running.size();
    int64_t blocks = free;
    while (!fits(keep, blocks)) {
      const SchedulerSequence& last = *running[keep - 1];
      if (!last.running || candidate.priority <= Level(last)) break;
      blocks += last.blocks + BlocksFor(last, last.wanted + 1);
      --keep;
    }
    if (!fits(keep, blocks)) break;  // nobody overtakes the best: it would starve
    for (; running.size() > keep; running.pop_back()) {
      --places[running.back()->tenant];
      admission.park.push_back(running.back()->id);
    }
    free = blocks;
    free -= need;
    ++places[candidate.tenant];
    running.insert(std::upper_bound(running.begin(), running.end(), &candidate,
                                    [](auto* a, auto* b) { return Before(*a, *b); }),
                   &candidate);
    admission.join.push_back(candidate.id);
  }
  return admission;
}

StepPlan Scheduler::PlanStep(const SchedulerState& state) {
  std::vector<Place> ranked;
  for (const SchedulerSequence& sequence : state.sequences) {
    if (sequence.running) ranked.push_back({&sequence});
  }
  std::sort(ranked.begin(), ranked.end(), [](const Place& a, const Place& b) { return Before(*a.sequence, *b.sequence); });
  Memory memory(Free(state), ranked);

  // Answers. Memory goes by rank, rows by who waited longest.
  std::vector<size_t> answers, prompts;
  for (size_t i = 0; i < ranked.size(); ++i) {
    if (!ranked[i].sequence->stalled) (ranked[i].sequence->decoding ? answers : prompts).push_back(i);
  }
  const int64_t most_answers = prompts.empty() ? state.step_tokens : std::max<int64_t>(1, state.step_tokens * 3 / 4);
  if (static_cast<int64_t>(answers.size()) > most_answers) {
    std::stable_sort(answers.begin(), answers.end(), [&](size_t a, size_t b) {
      return ranked[a].sequence->last_step < ranked[b].sequence->last_step;
    });
    answers.resize(static_cast<size_t>(most_answers));
    std::sort(answers.begin(), answers.end());
  }
  int64_t answer_rows = 0;
  for (const size_t i : answers) {
    if (ranked[i].parked) continue;
    if (memory.Take(i, 1) > 0) {
      ++answer_rows;
    } else if (i > 0) {
      memory.Park(ranked[i]);  // the last one left, and there is no block for it: it makes room for those before it
    }
  }

  int64_t budget = PrefillBudget(state, answer_rows);
  std::map<int32_t, double> granted;  // rows of this step, by tenant

  // Prompts of the first level that this step can finish, from what was saved.
  const bool timed = answer_rows > 0 && state.decode_seconds > 0 && state.prefill_row_seconds > 0;
  const double row_seconds = state.many_rows_seconds > 0 ? state.many_rows_seconds : state.prefill_row_seconds;
  if (timed && !state.answers_alone) {
    auto affordable = static_cast<int64_t>(
        std::min(saved_ / row_seconds, static_cast<double>(std::max<int64_t>(0, state.step_tokens - answer_rows))));
    for (const size_t i : prompts) {
      const SchedulerSequence& sequence = *ranked[i].sequence;
      if (Level(sequence) != Level(*ranked[prompts.front()].sequence)) break;
      if (ranked[i].parked || sequence.wanted > affordable) continue;
      const int64_t rows = memory.Take(i, sequence.wanted);
      affordable -= rows;
      budget -= std::min(rows, budget);
      granted[sequence.tenant] += static_cast<double>(rows);
    }
  }

  // The others, level by level.
  for (size_t begin = 0; begin < prompts.size() && budget > 0;) {
    const int64_t level = Level(*ranked[prompts[begin]].sequence);
    size_t end = begin;
    std::map<int32_t, std::vector<size_t>> by_tenant;  // oldest first
    double most_served = 0;
    for (; end < prompts.size() && Level(*ranked[prompts[end]].sequence) == level; ++end) {
      const int32_t tenant = ranked[prompts[end]].sequence->tenant;
      by_tenant[tenant].push_back(prompts[end]);
      most_served = std::max(most_served, Served(tenant));
    }
    begin = end;
    for (const auto& [tenant, places] : by_tenant) {
      served_[tenant] = std::max(Served(tenant), most_served - kMostLag);
    }
    bool oldest_next = true;
    while (budget > 0 && !by_tenant.empty()) {
      const auto tenant = std::min_element(by_tenant.begin(), by_tenant.end(), [&](const auto& a, const auto& b) {
        return Served(a.first) + granted[a.first] < Served(b.first) + granted[b.first];
      });
      auto& places = tenant->second;
      const auto left = [&](size_t i) { return ranked[i].sequence->wanted - ranked[i].rows; };
      std::erase_if(places, [&](size_t i) { return ranked[i].parked || left(i) == 0; });
      if (places.empty()) {
        by_tenant.erase(tenant);
        continue;
      }
      auto choice = places.begin();
      if (!oldest_next) {
        choice = std::min_element(places.begin(), places.end(), [&](size_t a, size_t b) { return left(a) < left(b); });
      }
      oldest_next = !oldest_next;
      const int64_t rows = memory.Take(*choice, std::min({kQuantum, budget, left(*choice)}));
      if (rows == 0) {
        places.erase(choice);  // it waits for memory: those before it are running and will end
        continue;
      }
      budget -= rows;
      granted[tenant->first] += static_cast<double>(rows);
    }
  }

  if (timed) {
    int64_t rows = 0;
    for (const size_t i : prompts) rows += ranked[i].rows;
    const double spent = static_cast<double>(rows) * (rows < kManyRows ? state.prefill_row_seconds : row_seconds);
    saved_ = std::clamp(saved_ + state.decode_seconds - spent, 0.0, kMostSaved * state.decode_seconds);
  }

  StepPlan plan;
  for (auto& [tenant, rows] : served_) rows *= kForget;
  for (const Place& place : ranked) {
    if (place.parked) {
      plan.park.push_back(place.sequence->id);
    } else if (place.rows > 0 && place.sequence->decoding) {
      plan.rows.push_back({place.sequence->id, place.rows});
    }
  }
  for (const Place& place : ranked) {
    if (place.parked || place.rows == 0) continue;
    served_[place.sequence->tenant] += static_cast<double>(place.rows);
    if (!place.sequence->decoding) plan.rows.push_back({place.sequence->id, place.rows});
  }
  std::erase_if(served_, [](const auto& entry) { return entry.second < 0.5; });
  return plan;
}

}  // namespace fathom
