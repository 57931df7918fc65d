#include "train/launcher.h"

#include <gmock/gmock.h>

#include <map>

namespace fathom::train {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

Result<LaunchPlace> Parse(const Variables& variables) {
  return ParseLauncher([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

LaunchPlace Good(const Variables& variables) {
  auto place = Parse(variables);
  EXPECT_TRUE(place) << (place ? "" : place.error().message);
  return place ? *place : LaunchPlace{};
}

std::string Bad(const Variables& variables) {
  const auto place = Parse(variables);
  if (place) return "no error";
  EXPECT_EQ(place.error().code, ErrorCode::kInvalidArgument);
  return place.error().message;
}

TEST(Launcher, AProcessAloneIsOneRank) {
  for (const Variables& variables : {Variables{}, Variables{{"RANK", ""}, {"WORLD_SIZE", ""}},
                                     Variables{{"MASTER_ADDR", "node7"}, {"MASTER_PORT", "1234"}}}) {
    const LaunchPlace place = Good(variables);
    EXPECT_EQ(place.launcher, "");
    EXPECT_EQ(place.rank, 0);
    EXPECT_EQ(place.size, 1);
    EXPECT_FALSE(place.local_rank);
    EXPECT_TRUE(place.on_one_machine());
  }
}

TEST(Launcher, Torchrun) {
  const LaunchPlace place = Good({{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "4"},
                                  {"MASTER_ADDR", "node7"}, {"MASTER_PORT", "29501"}});
  EXPECT_EQ(place.launcher, "torchrun");
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.size, 8);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 4);
  EXPECT_EQ(place.address, "node7");
  EXPECT_EQ(place.port, 29501);
  EXPECT_FALSE(place.on_one_machine());
  // All here: the host's name is not needed.
  const LaunchPlace here = Good({{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "5"}, {"LOCAL_WORLD_SIZE", "8"},
                                 {"MASTER_ADDR", "node7"}});
  EXPECT_EQ(here.address, "127.0.0.1");
  EXPECT_TRUE(here.on_one_machine());
}

TEST(Launcher, TheAgentsPortIsItsOwn) {
  Variables variables{{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "29500"},
                      {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
  EXPECT_EQ(Good(variables).port, 19500);
  for (int port = 1; port <= 65535; ++port) {
    variables["MASTER_PORT"] = std::to_string(port);
    const int ours = Good(variables).port;
    ASSERT_NE(ours, port);
    ASSERT_GE(ours, 10000);
    ASSERT_LT(ours, 30000);
  }
  variables["MASTER_PORT"] = "29500";
  variables["FATHOM_MASTER_PORT"] = "4711";
  EXPECT_EQ(Good(variables).port, 4711);
  variables["FATHOM_MASTER_PORT"] = "29500";
  EXPECT_THAT(Bad(variables), HasSubstr("FATHOM_MASTER_PORT=29500"));
  // Without an agent's store there, the port is free for ours.
  variables["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  EXPECT_EQ(Good(variables).port, 29500);
  variables.erase("FATHOM_MASTER_PORT");
  EXPECT_EQ(Good(variables).port, 29500);
}

TEST(Launcher, OpenMpiAndPmi) {
  LaunchPlace place = Good({{"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_COMM_WORLD_SIZE", "4"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "3"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}});
  EXPECT_EQ(place.launcher, "mpirun");
  EXPECT_EQ(place.rank, 3);
  EXPECT_EQ(place.size, 4);
  EXPECT_EQ(place.local_rank, 3);
  EXPECT_EQ(place.local_size, 4);
  EXPECT_EQ(place.address, "127.0.0.1");
  EXPECT_EQ(place.port, 29500);
  place = Good({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "0"}, {"MPI_LOCALNRANKS", "1"},
                {"MASTER_ADDR", "node7"}});
  EXPECT_EQ(place.launcher, "mpirun");
  EXPECT_EQ(place.rank, 1);
  EXPECT_EQ(place.local_rank, 0);
  EXPECT_FALSE(place.on_one_machine());
}

TEST(Launcher, Slurm) {
  Variables variables{{"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "9"}, {"SLURM_LOCALID", "1"}, {"SLURM_NODEID", "2"},
                      {"SLURM_TASKS_PER_NODE", "4(x1),2(x2),1"}, {"MASTER_ADDR", "node7"}};
  LaunchPlace place = Good(variables);
  EXPECT_EQ(place.launcher, "srun");
  EXPECT_EQ(place.rank, 5);
  EXPECT_EQ(place.size, 9);
  EXPECT_EQ(place.local_rank, 1);
  EXPECT_EQ(place.local_size, 2);
  // A step may be smaller than its job.
  variables["SLURM_STEP_NUM_TASKS"] = "6";
  variables["SLURM_STEP_TASKS_PER_NODE"] = "2(x3)";
  EXPECT_EQ(Good(variables).size, 6);
  variables["SLURM_NODEID"] = "3";
  EXPECT_FALSE(Good(variables).local_size);
  for (const char* text : {"x", "2(", "2(x", "2(x3", "2(xx)", "2(x-1)", "2;2", ",,,", "99999999999999999999"}) {
    variables["SLURM_STEP_TASKS_PER_NODE"] = text;
    EXPECT_FALSE(Good(variables).local_size) << text;
  }
  // A process in an allocation that srun did not start.
  EXPECT_EQ(Good({{"SLURM_NTASKS", "8"}, {"SLURM_JOB_ID", "1"}}).size, 1);
}

TEST(Launcher, TheInnermostLauncherCounts) {
  const LaunchPlace place = Good({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "1"}, {"SLURM_LOCALID", "0"}, {"RANK", "1"},
                                  {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}});
  EXPECT_EQ(place.launcher, "torchrun");
  EXPECT_EQ(place.rank, 1);
}

TEST(Launcher, WhatDoesNotAgreeIsNamed) {
  EXPECT_THAT(Bad({{"RANK", "0"}}), AllOf(HasSubstr("RANK"), HasSubstr("WORLD_SIZE"), HasSubstr("torchrun")));
  EXPECT_THAT(Bad({{"RANK", "2"}, {"WORLD_SIZE", "2"}}), HasSubstr("WORLD_SIZE"));
  EXPECT_THAT(Bad({{"RANK", "-1"}, {"WORLD_SIZE", "2"}}), HasSubstr("WORLD_SIZE"));
  EXPECT_THAT(Bad({{"RANK", "one"}, {"WORLD_SIZE", "2"}}), HasSubstr("RANK=one"));
  EXPECT_THAT(Bad({{"OMPI_COMM_WORLD_SIZE", "2"}}), HasSubstr("OMPI_COMM_WORLD_RANK"));
  const Variables two{{"RANK", "0"}, {"WORLD_SIZE", "2"}};
  const auto with = [&](Variables more) {
    more.insert(two.begin(), two.end());
    return Bad(more);
  };
  EXPECT_THAT(with({{"MASTER_PORT", "0"}}), HasSubstr("MASTER_PORT=0"));
  EXPECT_THAT(with({{"MASTER_PORT", "65536"}}), HasSubstr("65535"));
  EXPECT_THAT(with({{"MASTER_PORT", "http"}}), HasSubstr("MASTER_PORT=http"));
  EXPECT_THAT(with({{"FATHOM_MASTER_PORT", "-3"}}), HasSubstr("FATHOM_MASTER_PORT=-3"));
  EXPECT_THAT(with({{"LOCAL_RANK", "2"}}), HasSubstr("local rank 2"));
  EXPECT_THAT(with({{"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "1"}, {"MASTER_ADDR", "node7"}}),
              HasSubstr("local rank 1 of 1"));
  EXPECT_THAT(with({{"LOCAL_RANK", "0"}, {"LOCAL_WORLD_SIZE", "1"}}), HasSubstr("MASTER_ADDR"));
}

}  // namespace
}  // namespace fathom::train
