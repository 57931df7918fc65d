#include "engine/prefill_rows.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

// 10 GB read in 4 s at 2.5 GB/s, and 1.25 times that to be computed.
PrefillRowsInput Input(double row_seconds) {
  return {.base = 1024, .most = 4096, .pass_bytes = 10e9, .disk_rate = 2.5e9, .row_seconds = row_seconds};
}

TEST(PrefillRows, ComputingTakesAsLongAsReading) {
  EXPECT_EQ(PrefillRows(Input(5.0 / 2048)), 2048);
  EXPECT_EQ(PrefillRows(Input(5.0 / 2047.5)), 2048);  // whole quanta
  EXPECT_EQ(PrefillRows(Input(5.0 / 2049)), 2112);
  EXPECT_EQ(PrefillRows(Input(5.0 / 1100)), 1152);
}

TEST(PrefillRows, StaysBetweenBaseAndMost) {
  EXPECT_EQ(PrefillRows(Input(1)), 1024);
  EXPECT_EQ(PrefillRows(Input(1e-9)), 4096);
  EXPECT_EQ(PrefillRows(Input(0)), 4096);
  auto little = Input(1e-9);
  little.most = 100;  // no memory for more than the base, which is used without asking
  EXPECT_EQ(PrefillRows(little), 1024);
  auto resident = Input(1e-3);
  resident.pass_bytes = 0;
  EXPECT_EQ(PrefillRows(resident), 1024);
  resident.disk_rate = resident.row_seconds = 0;  // nothing known of anything: 0 / 0
  EXPECT_EQ(PrefillRows(resident), 4096);
}

TEST(ScratchBytesOfRow, CountsTheBuffersOfBothKindsOfAttention) {
  ModelConfig config;
  config.hidden_size = 2048;
  config.intermediate_size = 10944;
  config.num_attention_heads = 16;
  config.rope.dim = 64;
  config.moe = {.n_routed_experts = 64, .num_experts_per_tok = 6, .n_shared_experts = 2, .moe_intermediate_size = 1408};
  config.mla = {.kv_lora_rank = 512, .qk_nope_head_dim = 128, .qk_rope_head_dim = 64, .v_head_dim = 128};
  const int64_t floats = 3 * 2048 + (576 + 16 * (192 + 576 + 512 + 128)) + 2 * 10944 + 6 * 2048 + 2 * 2816 + 64 + 64;
  EXPECT_EQ(ScratchBytesOfRow(config), 4 * floats + (2048 + 10944 + 2816) * 3 / 2);

  ModelConfig plain;
  plain.hidden_size = 128;
  plain.intermediate_size = 256;
  plain.num_attention_heads = 4;
  plain.num_key_value_heads = 2;
  plain.head_dim = plain.rope.dim = 32;
  EXPECT_EQ(ScratchBytesOfRow(plain), 4 * (3 * 128 + 2 * 6 * 32 + 2 * 256 + 32) + (128 + 256) * 3 / 2);
}

}  // namespace
}  // namespace fathom
