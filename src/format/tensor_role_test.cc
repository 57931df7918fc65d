#include "format/tensor_role.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(TensorRole, ByName) {
  ModelConfig config;
  config.num_hidden_layers = 3;
  EXPECT_EQ(RoleOf(config, "token_embd.weight"), TensorRole::kEmbedding);
  EXPECT_EQ(RoleOf(config, "model.embed_tokens.weight"), TensorRole::kEmbedding);
  EXPECT_EQ(RoleOf(config, "output.weight"), TensorRole::kDense);
  EXPECT_EQ(RoleOf(config, "blk.2.attn_q.weight"), TensorRole::kDense);
  EXPECT_EQ(RoleOf(config, "blk.2.ffn_gate_inp.weight"), TensorRole::kDense);
  EXPECT_EQ(RoleOf(config, "blk.2.ffn_up_shexp.weight"), TensorRole::kDense);
  EXPECT_EQ(RoleOf(config, "blk.2.ffn_gate_up_exps.weight"), TensorRole::kRoutedExpert);
  EXPECT_EQ(RoleOf(config, "model.layers.1.mlp.experts.7.up_proj.weight_scale_inv"), TensorRole::kRoutedExpert);
  EXPECT_EQ(RoleOf(config, "model.layers.1.mlp.shared_experts.up_proj.weight"), TensorRole::kDense);
  EXPECT_EQ(RoleOf(config, "blk.3.ffn_up_exps.weight"), TensorRole::kMtp);
  EXPECT_EQ(RoleOf(config, "model.layers.3.eh_proj.weight"), TensorRole::kMtp);
}

TEST(TensorRole, LayersOfOddNames) {
  EXPECT_EQ(LayerOfTensor("blk.12.attn_q.weight"), 12);
  EXPECT_EQ(LayerOfTensor("model.layers.0.x"), 0);
  EXPECT_EQ(LayerOfTensor("blk.12"), -1);
  EXPECT_EQ(LayerOfTensor("blk.x.attn"), -1);
  EXPECT_EQ(LayerOfTensor("blk.99999999999.attn"), -1);
  EXPECT_EQ(LayerOfTensor("output_norm.weight"), -1);
}

}  // namespace
}  // namespace fathom
