// The policy by itself: who joins, who gets rows, who is parked; and long random histories that must all come to an end.
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

namespace fathom {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

SchedulerSequence Waiting(uint64_t id, int64_t wanted, int32_t priority = 0, int32_t tenant = 0) {
  return {.id = id, .tenant = tenant, .priority = priority, .arrival = id, .wanted = wanted};
}
SchedulerSequence Prompt(uint64_t id, int64_t held, int64_t wanted, int32_t priority = 0, int32_t tenant = 0) {
  auto s = Waiting(id, wanted, priority, tenant);
  s.running = true;
  s.held = held;
  s.blocks = (held + 63) / 64;
  return s;
}
SchedulerSequence Answer(uint64_t id, int64_t held, int32_t priority = 0, int32_t tenant = 0) {
  auto s = Prompt(id, held, 1, priority, tenant);
  s.decoding = true;
  return s;
}

struct Machine {
  int32_t max_sequences = 8;
  int64_t step_tokens = 128;
  int64_t free_blocks = -1;
  double decode_seconds = 0, prefill_row_seconds = 0;
};
SchedulerState State(const std::vector<SchedulerSequence>& sequences, const Machine& m) {
  return {.sequences = sequences,
          .max_sequences = m.max_sequences,
          .step_tokens = m.step_tokens,
          .free_blocks = m.free_blocks,
          .decode_seconds = m.decode_seconds,
          .prefill_row_seconds = m.prefill_row_seconds};
}
StepPlan Plan(const std::vector<SchedulerSequence>& sequences, const Machine& machine = {}) {
  return Scheduler().PlanStep(State(sequences, machine));
}
Admission Admit(const std::vector<SchedulerSequence>& sequences, const Machine& machine = {},
                const Scheduler::SharesFn& shares = {}) {
  return Scheduler().Admit(State(sequences, machine), shares);
}
int64_t RowsOf(const StepPlan& plan, uint64_t id) {
  for (const RowGrant& grant : plan.rows) {
    if (grant.id == id) return grant.rows;
  }
  return 0;
}

// --- Steps.

struct StepCase {
  const char* name;
  std::vector<SchedulerSequence> sequences;
  Machine machine;
  std::vector<RowGrant> rows;
  std::vector<uint64_t> park;
};
class StepTable : public testing::TestWithParam<StepCase> {};

TEST_P(StepTable, Gives) {
  const StepPlan plan = Plan(GetParam().sequences, GetParam().machine);
  EXPECT_EQ(plan.park, GetParam().park);
  ASSERT_EQ(plan.rows.size(), GetParam().rows.size());
  for (size_t i = 0; i < plan.rows.size(); ++i) {
    EXPECT_EQ(plan.rows[i].id, GetParam().rows[i].id) << i;
    EXPECT_EQ(plan.rows[i].rows, GetParam().rows[i].rows) << i;
  }
}

const double kRow = 1.0 / 1024;
INSTANTIATE_TEST_SUITE_P(
    All, StepTable,
    testing::Values(
        StepCase{"nothing", {}, {}, {}, {}},
        StepCase{"only_waiting", {Waiting(1, 5)}, {}, {}, {}},
        StepCase{"one_prompt_takes_the_step", {Prompt(1, 0, 1000)}, {}, {{1, 128}}, {}},
        StepCase{"one_short_prompt", {Prompt(1, 0, 3)}, {}, {{1, 3}}, {}},
        StepCase{"answers_first", {Prompt(1, 0, 1000), Answer(2, 70), Answer(3, 9)},
                 {.decode_seconds = 1, .prefill_row_seconds = 0.01}, {{2, 1}, {3, 1}, {1, 60}}, {}},
        StepCase{"prompts_beside_answers_are_bounded_by_time", {Prompt(1, 0, 1000), Answer(2, 70)},
                 {.decode_seconds = 40 * kRow, .prefill_row_seconds = kRow}, {{2, 1}, {1, 24}}, {}},
        StepCase{"but_move", {Prompt(1, 0, 1000), Answer(2, 70)},
                 {.decode_seconds = 0.001, .prefill_row_seconds = 1}, {{2, 1}, {1, 1}}, {}},
        StepCase{"and_by_the_step", {Prompt(1, 0, 1000), Answer(2, 70)},
                 {.decode_seconds = 9, .prefill_row_seconds = kRow}, {{2, 1}, {1, 127}}, {}},
        StepCase{"nothing_measured_yet", {Prompt(1, 0, 1000), Answer(2, 70)}, {}, {{2, 1}, {1, 16}}, {}},
        StepCase{"stalled_gets_nothing", {[] { auto s = Prompt(1, 64, 100); s.stalled = true; return s; }(), Prompt(2, 0, 9)},
                 {}, {{2, 9}}, {}},
        StepCase{"the_oldest_and_the_shortest_share",
                 {Prompt(1, 0, 1000), Prompt(2, 0, 1000), Prompt(3, 0, 40)}, {}, {{1, 88}, {3, 40}}, {}},
        StepCase{"higher_priority_first", {Prompt(1, 0, 1000), Prompt(2, 0, 100, 1)}, {}, {{2, 100}, {1, 28}}, {}},
        StepCase{"tenants_share", {Prompt(1, 0, 1000), Prompt(2, 0, 1000), Prompt(3, 0, 1000, 0, 7)},
                 {}, {{1, 64}, {3, 64}}, {}},
        StepCase{"a_block_is_missing", {Answer(1, 64), Answer(2, 64), Answer(3, 64)}, {.free_blocks = 0},
                 {{1, 1}}, {2, 3}},
        StepCase{"the_lower_priority_is_parked", {Answer(1, 64, -1), Answer(2, 100), Answer(3, 64)}, {.free_blocks = 0},
                 {{2, 1}, {3, 1}}, {1}},
        StepCase{"alone_without_memory", {Answer(1, 64)}, {.free_blocks = 0}, {}, {}},
        StepCase{"memory_bounds_a_piece", {Prompt(1, 100, 1000)}, {.free_blocks = 1}, {{1, 92}}, {}},
        StepCase{"a_shared_tail_needs_a_copy",
                 {[] { auto s = Answer(1, 70); s.shared_tail = true; return s; }(), Answer(2, 10)}, {.free_blocks = 0},
                 {{1, 1}}, {2}},
        StepCase{"a_prompt_waits_for_memory_of_those_before_it", {Answer(1, 10), Prompt(2, 64, 100)}, {.free_blocks = 0},
                 {{1, 1}}, {}}),
    [](const auto& info) { return info.param.name; });

TEST(SchedulerStep, MoreAnswersThanRowsTakeTurns) {
  std::vector<SchedulerSequence> sequences;
  for (uint64_t i = 1; i <= 40; ++i) sequences.push_back(Answer(i, 10));
  Scheduler scheduler;
  std::vector<uint64_t> last(41);
  for (uint64_t step = 1; step <= 50; ++step) {
    const StepPlan plan = scheduler.PlanStep(State(sequences, {.max_sequences = 40, .step_tokens = 16}));
    ASSERT_EQ(plan.rows.size(), 16u);
    for (const RowGrant& grant : plan.rows) {
      EXPECT_LE(step - last[grant.id], 3u);  // 40 in turns of 16
      sequences[grant.id - 1].last_step = last[grant.id] = step;
    }
  }
  EXPECT_GE(*std::min_element(last.begin() + 1, last.end()), 48u);
  sequences.push_back(Prompt(41, 0, 100));  // and a prompt still gets on
  EXPECT_GT(RowsOf(scheduler.PlanStep(State(sequences, {.max_sequences = 41, .step_tokens = 16})), 41), 0);
}

TEST(SchedulerStep, AShortQuestionDoesNotWaitForABook) {
  Scheduler scheduler;
  std::vector<SchedulerSequence> sequences = {Prompt(1, 0, 16000), Prompt(2, 0, 60)};
  int steps = 0;
  for (; sequences[1].wanted > 0 && steps < 100; ++steps) {
    const StepPlan plan = scheduler.PlanStep(State(sequences, {.step_tokens = 32}));
    EXPECT_GE(RowsOf(plan, 1), 16);
    sequences[1].wanted -= RowsOf(plan, 2);
  }
  EXPECT_LE(steps, 4);
}

TEST(SchedulerStep, TenantsGetEqualSharesOverTime) {
  Scheduler scheduler;
  std::vector<SchedulerSequence> sequences;  // tenant 0 has six prompts, the others one each
  for (uint64_t i = 1; i <= 6; ++i) sequences.push_back(Prompt(i, 0, 1 << 30));
  sequences.push_back(Prompt(7, 0, 1 << 30, 0, 1));
  sequences.push_back(Prompt(8, 0, 1 << 30, 0, 2));
  std::map<int32_t, int64_t> rows;
  for (int step = 0; step < 300; ++step) {
    for (const RowGrant& grant : scheduler.PlanStep(State(sequences, {.step_tokens = 100})).rows)
      rows[sequences[grant.id - 1].tenant] += grant.rows;
  }
  for (const int32_t tenant : {0, 1, 2}) EXPECT_NEAR(static_cast<double>(rows[tenant]), 10000, 300) << tenant;
}

TEST(SchedulerStep, AStepOfAnswersAloneIsMeasured) {
  std::vector<SchedulerSequence> sequences = {Prompt(1, 0, 100), Answer(2, 50)};
  SchedulerState state = State(sequences, {});
  state.answers_alone = true;
  EXPECT_EQ(Scheduler().PlanStep(state).rows, (std::vector<RowGrant>{{2, 1}}));
  sequences.pop_back();  // nobody answers: there is nothing to measure
  state.sequences = sequences;
  EXPECT_EQ(Scheduler().PlanStep(state).rows, (std::vector<RowGrant>{{1, 100}}));
}

TEST(SchedulerStep, TheSlowestStepStaysBelowTwiceTheIdleOne) {
  // A machine whose steps take 20 ms and 2 ms a row, told to the scheduler as measured.
  for (const int answers : {1, 4, 8, 31}) {
    std::vector<SchedulerSequence> sequences = {Prompt(1, 0, 16000)};
    for (int i = 0; i < answers; ++i) sequences.push_back(Answer(static_cast<uint64_t>(2 + i), 50));
    const double idle = 0.020 + 0.002 * answers;
    const StepPlan plan = Plan(sequences, {.step_tokens = 512, .decode_seconds = idle, .prefill_row_seconds = 0.002});
    EXPECT_LT(idle + 0.002 * static_cast<double>(RowsOf(plan, 1)), 2 * idle);
    EXPECT_GE(RowsOf(plan, 1), 5);
  }
}

// Eight answers of 0.2 s a step; rows of prompts cost 30 ms each while they are few and 15 ms where they are many.
SchedulerState EightAnswers(std::vector<SchedulerSequence>& sequences) {
  for (uint64_t id = 1; id <= 8; ++id) sequences.push_back(Answer(id, 100));
  SchedulerState state = State(sequences, {.max_sequences = 64, .step_tokens = 512, .decode_seconds = 0.2,
                                           .prefill_row_seconds = 0.030});
  state.many_rows_seconds = 0.015;
  return state;
}

TEST(SchedulerStep, AQuestionIsFinishedAtOnceFromWhatWasSaved) {
  Scheduler scheduler;
  std::vector<SchedulerSequence> sequences;
  SchedulerState state = EightAnswers(sequences);
  for (int i = 0; i < 20; ++i) scheduler.PlanStep(state);
  sequences.push_back(Prompt(9, 4096, 4000));  // a book: it gets its share, and nothing of the savings
  sequences.push_back(Prompt(10, 4096, 32));
  state.sequences = sequences;
  StepPlan plan = scheduler.PlanStep(state);
  EXPECT_EQ(RowsOf(plan, 10), 32);
  EXPECT_EQ(RowsOf(plan, 9), 0);
  sequences.pop_back();
  state.sequences = sequences;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(RowsOf(scheduler.PlanStep(state), 9), 4);
  sequences.push_back(Prompt(11, 4096, 120));  // more than can ever be saved
  state.sequences = sequences;
  plan = scheduler.PlanStep(state);
  EXPECT_EQ(RowsOf(plan, 9) + RowsOf(plan, 11), 4);
}

TEST(SchedulerStep, HoweverManyQuestionsComeAnswersKeepHalfTheirSpeed) {
  Scheduler scheduler;
  std::vector<SchedulerSequence> sequences;
  SchedulerState state = EightAnswers(sequences);
  double seconds = 0;
  uint64_t next = 9;
  constexpr int kSteps = 500;
  for (int step = 0; step < kSteps; ++step) {
    while (sequences.size() < 40) sequences.push_back(Prompt(next++, 4096, 24));
    state.sequences = sequences;
    const StepPlan plan = scheduler.PlanStep(state);
    int64_t rows = 0;
    for (const RowGrant& grant : plan.rows) {
      if (grant.id > 8) rows += grant.rows;
    }
    const double step_seconds = 0.2 + static_cast<double>(rows) * (rows >= Scheduler::kManyRows ? 0.015 : 0.030);
    EXPECT_LE(step_seconds, 0.2 * (1 + Scheduler::kMostSaved) + 0.13);
    seconds += step_seconds;
    std::erase_if(sequences, [&](const SchedulerSequence& s) { return RowsOf(plan, s.id) == s.wanted && s.id > 8; });
    for (SchedulerSequence& s : sequences) {
      if (s.id > 8) s.wanted -= RowsOf(plan, s.id);
    }
  }
  EXPECT_LT(seconds, 2.2 * 0.2 * kSteps);
  EXPECT_GT(next, 9 + kSteps / 3);  // and questions were answered
}

// --- Joining.

struct AdmitCase {
  const char* name;
  std::vector<SchedulerSequence> sequences;
  Machine machine;
  std::vector<uint64_t> join, park;
};
class AdmitTable : public testing::TestWithParam<AdmitCase> {};

TEST_P(AdmitTable, LetsIn) {
  const Admission admission = Admit(GetParam().sequences, GetParam().machine);
  EXPECT_EQ(admission.join, GetParam().join);
  EXPECT_EQ(admission.park, GetParam().park);
}

SchedulerSequence Aged(SchedulerSequence s, double seconds) {
  s.age_seconds = seconds;
  return s;
}
INSTANTIATE_TEST_SUITE_P(
    All, AdmitTable,
    testing::Values(
        AdmitCase{"nobody", {}, {}, {}, {}},
        AdmitCase{"in_order", {Waiting(3, 5), Waiting(1, 5), Waiting(2, 5)}, {}, {1, 2, 3}, {}},
        AdmitCase{"as_many_as_there_are_places", {Answer(1, 5), Waiting(2, 5), Waiting(3, 5)}, {.max_sequences = 2},
                  {2}, {}},
        AdmitCase{"higher_priority_first", {Waiting(1, 5), Waiting(2, 5, 3), Waiting(3, 5, 1)}, {.max_sequences = 2},
                  {2, 3}, {}},
        AdmitCase{"age_counts", {Aged(Waiting(1, 5), 95), Waiting(2, 5, 2)}, {.max_sequences = 1}, {1}, {}},
        AdmitCase{"the_tenant_with_fewest_places", {Answer(1, 5), Waiting(2, 5), Waiting(3, 5), Waiting(4, 5, 0, 9)},
                  {.max_sequences = 3}, {4, 2}, {}},
        AdmitCase{"memory_for_the_whole_prompt", {Answer(1, 60), Waiting(2, 300)}, {.free_blocks = 4}, {}, {}},
        AdmitCase{"memory_is_enough", {Answer(1, 60), Waiting(2, 300)}, {.free_blocks = 5}, {2}, {}},
        AdmitCase{"what_running_prompts_will_need_is_taken", {Prompt(1, 0, 200), Waiting(2, 60)}, {.free_blocks = 4}, {}, {}},
        AdmitCase{"nobody_overtakes_for_memory", {Answer(1, 10), Waiting(2, 600), Waiting(3, 5)}, {.free_blocks = 4}, {}, {}},
        AdmitCase{"the_only_one_always_joins", {Waiting(1, 600), Waiting(2, 5)}, {.free_blocks = 4}, {1}, {}},
        AdmitCase{"blocks_that_are_there_are_not_needed",
                  {Answer(1, 512), [] { auto s = Waiting(2, 520); s.blocks = 8; return s; }()}, {.free_blocks = 2}, {2}, {}},
        AdmitCase{"higher_priority_takes_a_place", {Answer(1, 5), Answer(2, 5), Waiting(3, 5, 1)}, {.max_sequences = 2},
                  {3}, {2}},
        AdmitCase{"equal_priority_does_not", {Answer(1, 5), Answer(2, 5), Waiting(3, 5)}, {.max_sequences = 2}, {}, {}},
        AdmitCase{"nor_from_somebody_grown_old", {Aged(Answer(1, 5), 31), Waiting(3, 5, 1)}, {.max_sequences = 1}, {}, {}},
        AdmitCase{"higher_priority_takes_memory", {Answer(1, 5, 1), Answer(2, 250), Waiting(3, 250, 1)}, {.free_blocks = 1},
                  {3}, {2}},
        AdmitCase{"nobody_is_parked_in_vain", {Answer(1, 640, 5), Answer(2, 64), Waiting(3, 640, 1)}, {.free_blocks = 1},
                  {}, {}}),
    [](const auto& info) { return info.param.name; });

TEST(SchedulerAdmit, OneWhoseRowsAreBeingComputedWaits) {
  const auto shares = [](uint64_t waiting, uint64_t running) { return running == 1 && waiting <= 3; };
  const std::vector<SchedulerSequence> sequences = {Waiting(1, 500), Waiting(2, 500), Waiting(3, 500), Waiting(4, 500)};
  EXPECT_THAT(Admit(sequences, {}, [&](uint64_t w, uint64_t r) { return w != r && shares(w, r); }).join, ElementsAre(1, 4));
}

TEST(SchedulerLast, IsTheLowestThenTheYoungest) {
  EXPECT_EQ(Scheduler::Last(std::vector<SchedulerSequence>{}), 0u);
  EXPECT_EQ(Scheduler::Last(std::vector{Waiting(1, 5)}), 0u);
  EXPECT_EQ(Scheduler::Last(std::vector{Answer(1, 5), Answer(2, 5), Answer(3, 5, 1), Waiting(4, 1)}), 2u);
}

// --- Histories. A machine with little memory, random requests, a clock; the service's part played as simply as can be.

struct Life {
  SchedulerSequence s;
  int64_t prompt = 0, answer = 0, produced = 0;
  double came = 0;
};

TEST(SchedulerProperty, EverybodyIsServedAndNothingIsOverdrawn) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    const auto pick = [&](int64_t low, int64_t high) {
      return low + static_cast<int64_t>(random() % static_cast<uint64_t>(high - low + 1));
    };
    Machine machine{.max_sequences = static_cast<int32_t>(pick(1, 12)), .step_tokens = pick(16, 200)};
    const int64_t total_blocks = pick(6, 40);
    machine.decode_seconds = random() % 2 != 0 ? 0.01 : 0;
    machine.prefill_row_seconds = machine.decode_seconds / static_cast<double>(pick(1, 50));
    std::vector<Life> lives;
    Scheduler scheduler;
    double now = 0;
    uint64_t next = 1, step = 0;
    int64_t submitted = 0, ended = 0;
    const int64_t requests = 60;
    while (ended < requests) {
      ASSERT_LT(++step, 40000u) << "seed " << seed << ": somebody starves";
      if (submitted < requests && random() % 4 == 0) {
        Life life;
        life.prompt = pick(1, total_blocks * 64 - 40);
        life.answer = pick(1, 30);
        life.came = now;
        life.s = Waiting(next, life.prompt, static_cast<int32_t>(pick(-2, 2)), static_cast<int32_t>(pick(0, 3)));
        ++next, ++submitted;
        lives.push_back(life);
      }
      std::vector<SchedulerSequence> sequences;
      const auto describe = [&] {
        sequences.clear();
        int64_t held = 0;
        for (Life& life : lives) {
          life.s.age_seconds = now - life.came;
          life.s.wanted = life.prompt + life.produced - life.s.held;
          life.s.decoding = life.s.running && life.produced > 0 && life.s.wanted == 1;
          held += life.s.blocks;
          sequences.push_back(life.s);
        }
        ASSERT_LE(held, total_blocks) << "seed " << seed;
        machine.free_blocks = total_blocks - held;
      };
      const auto find = [&](uint64_t id) -> Life& {
        return *std::find_if(lives.begin(), lives.end(), [&](const Life& life) { return life.s.id == id; });
      };
      const auto park = [&](uint64_t id) {
        Life& life = find(id);
        ASSERT_TRUE(life.s.running);
        life.s.running = false;
        life.s.held = life.s.blocks = 0;  // nothing is kept: the worst case
      };
      describe();
      const Admission admission = scheduler.Admit(State(sequences, machine), {});
      for (const uint64_t id : admission.park) park(id);
      for (const uint64_t id : admission.join) {
        ASSERT_FALSE(find(id).s.running);
        find(id).s.running = true;
      }
      const auto running = std::count_if(lives.begin(), lives.end(), [](const Life& l) { return l.s.running; });
      ASSERT_LE(running, machine.max_sequences);
      ASSERT_TRUE(running > 0 || lives.empty());
      describe();
      const StepPlan plan = scheduler.PlanStep(State(sequences, machine));
      for (const uint64_t id : plan.park) park(id);
      int64_t rows = 0;
      bool prompts_now = false;
      for (const RowGrant& grant : plan.rows) {
        Life& life = find(grant.id);
        ASSERT_TRUE(life.s.running);
        ASSERT_GE(grant.rows, 1);
        ASSERT_LE(grant.rows, life.s.wanted);
        ASSERT_TRUE(!prompts_now || !life.s.decoding) << "answers come first";
        prompts_now |= !life.s.decoding;
        rows += grant.rows;
      }
      ASSERT_LE(rows, machine.step_tokens);
      ASSERT_TRUE(rows > 0 || lives.empty()) << "seed " << seed << ": a step without work";
      // The first in rank gets on, and so does every answer that was not parked (but when there are too many).
      int64_t answers = 0;
      for (const Life& life : lives) answers += life.s.running && life.s.decoding;
      if (answers <= machine.step_tokens * 3 / 4) {
        for (const Life& life : lives) {
          if (!life.s.running || !life.s.decoding) continue;
          ASSERT_EQ(RowsOf(plan, life.s.id), 1);
        }
      }
      for (const RowGrant& grant : plan.rows) {
        Life& life = find(grant.id);
        life.s.last_step = step;
        life.s.held += grant.rows;
        life.s.blocks = (life.s.held + 63) / 64;
        if (life.s.held == life.prompt + life.produced) ++life.produced;
      }
      ended += static_cast<int64_t>(std::erase_if(lives, [](const Life& l) { return l.produced > l.answer; }));
      now += 0.02;
    }
  }
}

TEST(SchedulerProperty, LowPriorityIsNotStarvedByAStreamOfHigherOnes) {
  Scheduler scheduler;
  const Machine machine{.max_sequences = 1, .step_tokens = 64};
  std::vector<Life> lives;
  lives.push_back({Waiting(1, 64, -2), 64, 4});
  uint64_t next = 2;
  double now = 0;
  std::optional<double> served;
  for (int step = 0; step < 100000 && !served; ++step, now += 0.05) {
    if (step % 3 == 0) {  // always somebody of higher priority waiting
      lives.push_back({Waiting(next, 64, 2), 64, 2, 0, now});
      ++next;
    }
    std::vector<SchedulerSequence> sequences;
    for (Life& life : lives) {
      life.s.age_seconds = now - life.came;
      life.s.wanted = life.prompt + life.produced - life.s.held;
      life.s.decoding = life.s.running && life.produced > 0 && life.s.wanted == 1;
      sequences.push_back(life.s);
    }
    const Admission admission = scheduler.Admit(State(sequences, machine), {});
    for (Life& life : lives) {
      if (std::count(admission.park.begin(), admission.park.end(), life.s.id)) life.s.running = false;
      if (std::count(admission.join.begin(), admission.join.end(), life.s.id)) life.s.running = true;
      if (life.s.running) {  // one step
        life.s.held = life.prompt + life.produced;
        if (++life.produced > life.answer && life.s.id == 1) served = now;
      }
    }
    std::erase_if(lives, [](const Life& l) { return l.produced > l.answer; });
  }
  ASSERT_TRUE(served);
  EXPECT_LT(*served, 6 * Scheduler::kAgingSeconds);  // four levels below, and what had come before it
}

}  // namespace
}  // namespace fathom
