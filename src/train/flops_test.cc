#include "train/flops.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

ModelConfig V3() {
  ModelConfig c;
  c.family = ArchFamily::kDeepseek2;
  c.vocab_size = 129280;
  c.hidden_size = 7168;
  c.intermediate_size = 18432;
  c.num_hidden_layers = 61;
  c.num_attention_heads = 128;
  c.max_position_embeddings = 4096;
  c.rope.dim = 64;
  c.mla = {.q_lora_rank = 1536, .kv_lora_rank = 512, .qk_nope_head_dim = 128, .qk_rope_head_dim = 64,
           .v_head_dim = 128};
  c.moe = {.n_routed_experts = 256, .num_experts_per_tok = 8, .n_shared_experts = 1, .moe_intermediate_size = 2048,
           .first_k_dense_replace = 3, .n_group = 8, .topk_group = 4, .scoring_func = GatingFunction::kSigmoid,
           .norm_topk_prob = true, .routed_scaling_factor = 2.5f, .group_score_top2 = true,
           .has_correction_bias = true};
  return c;
}

// Two operations for each active weight that is multiplied with; norms and the bias are not.
TEST(Flops, ForwardIsTwoOperationsAnActiveWeight) {
  const ModelConfig c = V3();
  const FlopsPerToken flops = CountFlops(c, 4096);
  const double products = flops.forward() - flops.scores;
  const double active = static_cast<double>(CountParameters(c).active);
  EXPECT_NEAR(products / (2 * active), 1.0, 1e-4);
  EXPECT_LT(products, 2 * active);
}

TEST(Flops, ByHand) {
  const FlopsPerToken flops = CountFlops(V3(), 4095);
  EXPECT_DOUBLE_EQ(flops.head, 2.0 * 7168 * 129280);
  EXPECT_DOUBLE_EQ(flops.router, 58 * 2.0 * 7168 * 256);
  EXPECT_DOUBLE_EQ(flops.experts, 58 * 9 * 2.0 * 3 * 7168 * 2048);
  EXPECT_DOUBLE_EQ(flops.dense, 3 * 2.0 * 3 * 7168 * 18432);
  EXPECT_DOUBLE_EQ(flops.scores, 61 * 2.0 * 128 * (192 + 128) * 2048);
  EXPECT_DOUBLE_EQ(flops.attention, 61 * 2.0 * (7168.0 * 1536 + 1536.0 * 128 * 192 + 7168.0 * 576 +
                                                512.0 * 128 * 256 + 128.0 * 128 * 7168));
  EXPECT_EQ(flops.mtp, 0);
  EXPECT_DOUBLE_EQ(flops.training(), 3 * flops.forward());
  EXPECT_DOUBLE_EQ(flops.training(true), 4 * flops.forward() - flops.head);
}

TEST(Flops, AnMtpLayerIsOneMoreLayerWithItsProjectionAndTheHead) {
  ModelConfig c = V3();
  c.num_nextn_predict_layers = 1;
  const FlopsPerToken with = CountFlops(c, 4096);
  c.num_nextn_predict_layers = 0;
  const FlopsPerToken without = CountFlops(c, 4096);
  c.num_hidden_layers = 62;
  const double layer = CountFlops(c, 4096).forward() - without.forward();
  EXPECT_NEAR(with.mtp, layer + 4.0 * 7168 * 7168 + with.head, 1e3);
  EXPECT_DOUBLE_EQ(with.forward(), without.forward() + with.mtp);
}

// The authors' README_WEIGHTS.md counts 11.5 B parameters in the MTP module beyond the shared embedding and head.
TEST(Flops, MtpParametersOfV3) {
  ModelConfig c = V3();
  EXPECT_EQ(CountMtpParameters(c), 0);
  c.num_nextn_predict_layers = 1;
  EXPECT_NEAR(static_cast<double>(CountMtpParameters(c)) / 1e9, 11.5, 0.15);
}

TEST(Flops, DenseAndGroupedQueryModels) {
  ModelConfig c;
  c.family = ArchFamily::kLlama;
  c.vocab_size = 1000;
  c.hidden_size = 64;
  c.intermediate_size = 160;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 16;
  const FlopsPerToken flops = CountFlops(c, 99);
  EXPECT_DOUBLE_EQ(flops.attention, 2 * 2.0 * (64 * 128 + 64 * 64));
  EXPECT_DOUBLE_EQ(flops.scores, 2 * 2.0 * 4 * 32 * 50);
  EXPECT_DOUBLE_EQ(flops.experts, 0);
  EXPECT_DOUBLE_EQ(flops.dense, 2 * 2.0 * 3 * 64 * 160);
}

}  // namespace
}  // namespace fathom
