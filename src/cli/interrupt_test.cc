#include "cli/interrupt.h"

#include <gtest/gtest.h>

#include <csignal>

#include "cli/cli.h"

namespace fathom {
namespace {

const Error kCancelled{ErrorCode::kCancelled, "interrupted"};

TEST(Interrupt, TermAndHangUpAreQuestionsToo) {
  const int signals[] = {SIGINT, SIGTERM, SIGHUP};
  for (const int number : signals) {
    const InterruptScope scope(InterruptBy::kAnyEnd);
    EXPECT_FALSE(Interrupted());
    EXPECT_EQ(ExitStatus(kCancelled), 130);
    std::raise(number);
    EXPECT_TRUE(Interrupted());
    EXPECT_EQ(InterruptSignal(), number);
    EXPECT_EQ(ExitStatus(kCancelled), 128 + number);
    // What is sent to a group of processes and then to each of them comes twice.
    std::raise(SIGTERM);
    std::raise(SIGHUP);
    EXPECT_EQ(InterruptSignal(), number);
  }
}

TEST(Interrupt, WhatWasIgnoredOrHandledBeforeIsSoAfterwards) {
  struct sigaction before = {}, inside = {}, after = {};
  std::signal(SIGHUP, SIG_IGN);  // nohup
  sigaction(SIGTERM, nullptr, &before);
  {
    const InterruptScope scope(InterruptBy::kAnyEnd);
    sigaction(SIGHUP, nullptr, &inside);
    EXPECT_EQ(inside.sa_handler, SIG_IGN);
    sigaction(SIGTERM, nullptr, &inside);
    EXPECT_NE(inside.sa_handler, before.sa_handler);
  }
  sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(after.sa_handler, before.sa_handler);
  std::signal(SIGHUP, SIG_DFL);
}

TEST(InterruptDeathTest, CtrlCAloneLeavesTheOthersDeadly) {
  EXPECT_EXIT(
      {
        const InterruptScope scope;
        std::raise(SIGTERM);
      },
      testing::KilledBySignal(SIGTERM), "");
  EXPECT_EXIT(
      {
        const InterruptScope scope(InterruptBy::kAnyEnd);
        std::raise(SIGTERM);
        std::raise(SIGINT);  // by now it is meant
      },
      testing::KilledBySignal(SIGINT), "");
}

}  // namespace
}  // namespace fathom
