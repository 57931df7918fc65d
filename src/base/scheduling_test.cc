#include "base/scheduling.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <cerrno>
#include <thread>

namespace fathom {
namespace {

TEST(Scheduling, ShortSlicesLeavePolicyAndNiceness) {
  std::thread([] {
    errno = 0;
    const int nice = getpriority(PRIO_PROCESS, 0);
    (void)AskForShortSlices();
    EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
    EXPECT_EQ(getpriority(PRIO_PROCESS, 0), nice);
    EXPECT_EQ(errno, 0);
  }).join();
}

TEST(Scheduling, AChosenPolicyIsNotTouched) {
  std::thread([] {
    const sched_param parameters{};
    ASSERT_EQ(sched_setscheduler(0, SCHED_BATCH, &parameters), 0);
    EXPECT_FALSE(AskForShortSlices());
    EXPECT_EQ(sched_getscheduler(0), SCHED_BATCH);
  }).join();
}

}  // namespace
}  // namespace fathom
