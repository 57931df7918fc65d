// Who gets what of the next step: policy of the continuous batch, without model, memory or clock of its own.
//
// Two questions a step. Admit(): which waiting sequences join, and which running ones give up their place to somebody
// of higher priority. PlanStep(): how many rows each running sequence gets, and who is parked because KV memory is short.
//
// Rules, in the order of their weight:
//  - Rank. A sequence's level is its priority plus one for every kAgingSeconds since it was submitted, so that nobody
//    waits for ever; within a level the older one goes first. The first in rank is never parked: there is always
//    somebody who gets on.
//  - Decode before prompts: every running answer gets its one row (when there are more answers than rows of a step,
//    those that waited longest).
//  - Prompts share what is left. While answers are running that is only so many rows as lengthen their step by less than
//    kExtraShare of itself (measured seconds come in as numbers), which keeps the gap between two tokens below twice the
//    idle one; at least kLeastPrefill rows, so that prompts move at all.
//  - A question that one step can finish is finished in one step: rows beside each other cost less than one after another,
//    and its asker would wait through dozens of steps. Such a step may be long. So it is paid from what was saved: every
//    step of answers saves its own time once, up to kMostSaved times, and rows of prompts spend theirs. However many
//    questions come, answers keep about half their speed (the kLeastPrefill rows of a long prompt are not owed back).
//  - Levels of prompts are served strictly. Within a level tenants share evenly (by rows, remembered for a while), and
//    within a tenant half goes to the oldest prompt and half to the one with the least left: a short question does not
//    wait for a book, and the book gets on.
//  - Joining goes by level; within a level the tenant with the fewest running sequences first, then the one served
//    least, then the older sequence.
//  - A waiting sequence does not join while a running one is computing rows that it will need too (`shares`): once those
//    are kept in the cache it takes them from there.
//  - Memory is lent as it is used. One joins when what it is known to need fits beside what the running prompts still
//    need and a block for every running sequence. When a block is missing, the last in rank is parked.
//
// Deterministic: the same inputs give the same plan. Not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

namespace fathom {

struct SchedulerSequence {
  uint64_t id = 0;
  int32_t tenant = 0;       // any number that stands for it
  int32_t priority = 0;     // [-8, 8]
  uint64_t arrival = 0;     // unique; smaller came earlier
  double age_seconds = 0;   // since it was submitted
  bool running = false;
  bool decoding = false;    // running and wanted == 1: somebody watches its tokens come
  bool stalled = false;     // running, but rows it builds on are still arriving: nothing for it in this step
  int64_t held = 0;         // rows that are there
  int64_t wanted = 0;       // rows to compute before it has logits, >= 1
  int64_t blocks = 0;       // KV blocks it holds, those it shares included; waiting: those of its prompt that running ones
                            // hold, and that it will share
  bool shared_tail = false; // its next row goes into a block that others read too: one more block
  uint64_t last_step = 0;   // when it last got rows; any clock
};

struct SchedulerState {
  std::span<const SchedulerSequence> sequences;
  int32_t max_sequences = 1;
  int64_t step_tokens = 16;
  int64_t free_blocks = -1;        // that may be taken without parking anybody; -1: no limit
  bool answers_alone = false;      // this step is to be one of answers only, if there are any: it will be measured
  double decode_seconds = 0;       // of a step with this many answers and nothing else; 0: not known
  double prefill_row_seconds = 0;  // that a row of a prompt adds to such a step; 0: not known
  double many_rows_seconds = 0;    // the same of each of at least kManyRows rows; 0: not known
};

struct Admission {
  std::vector<uint64_t> park;  // first these leave
  std::vector<uint64_t> join;  // then these come, best first
};

struct RowGrant {
  uint64_t id = 0;
  int64_t rows = 0;  // >= 1
  bool operator==(const RowGrant&) const = default;
};

struct StepPlan {
  std::vector<uint64_t> park;  // first these leave
  std::vector<RowGrant> rows;  // answers first
};

class Scheduler {
 public:
  static constexpr double kAgingSeconds = 30;
  static constexpr double kExtraShare = 0.6;
  static constexpr int64_t kLeastPrefill = 1;  // deep in a long prompt a few rows take as long as all answers
  static constexpr int64_t kManyRows = 16;     // so many rows of prompts share weights with each other
  static constexpr double kMostSaved = 8;

  /// shares(waiting, running): the running one is computing rows now that the waiting one will need.
  using SharesFn = std::function<bool(uint64_t waiting, uint64_t running)>;

  Admission Admit(const SchedulerState& state, const SharesFn& shares);
  StepPlan PlanStep(const SchedulerState& state);

  /// Who would be parked first: the last in rank of the running; 0 when there is none. For callers that found less
  /// memory than they had said.
  static uint64_t Last(std::span<const SchedulerSequence> sequences);

  /// Rows for prompts in a step of `answers` rows.
  static int64_t PrefillBudget(const SchedulerState& state, int64_t answers);

 private:
  double Served(int32_t tenant) const;

  std::map<int32_t, double> served_;  // rows of late, by tenant
  double saved_ = 0;                  // seconds, for prompts that can be finished at once
};

}  // namespace fathom
