#include "model/kv_layout.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

ModelConfig Mla(int32_t layers, int32_t rank = 512, int32_t rope = 64) {
  ModelConfig config;
  config.num_hidden_layers = layers;
  config.mla.kv_lora_rank = rank;
  config.mla.qk_rope_head_dim = rope;
  return config;
}

ModelConfig Gqa(int32_t layers, int32_t kv_heads, int32_t head_dim) {
  ModelConfig config;
  config.num_hidden_layers = layers;
  config.num_key_value_heads = kv_heads;
  config.head_dim = head_dim;
  return config;
}

TEST(KvLayoutOf, MlaRowsAreFlashMlas) {
  const KvLayout fp8 = KvLayoutOf(Mla(61), DType::kF8_E4M3);
  EXPECT_EQ(fp8.row().bytes(), 656);
  EXPECT_EQ(fp8.row_bytes(), 704);
  EXPECT_EQ(fp8.row_tail, 64);
  EXPECT_EQ(fp8.row_group, 128);
  EXPECT_EQ(fp8.bytes_per_token(), 61 * 704);
  const KvLayout int8 = KvLayoutOf(Mla(61), DType::kI8);
  EXPECT_EQ(int8.row_group, 32);  // its sixteen scales fill the padding
  EXPECT_EQ(int8.row().bytes(), 704);
  EXPECT_EQ(int8.row_bytes(), 704);
  const KvLayout bf16 = KvLayoutOf(Mla(61), DType::kBF16);
  EXPECT_EQ(bf16.bytes_per_token(), 61 * 1152);
  EXPECT_EQ(bf16.row_tail, 0);
  EXPECT_EQ(bf16.row_group, 0);
}

TEST(KvLayoutOf, GroupsOfGroupedQueryRowsEndWithTheHeads) {
  EXPECT_EQ(KvLayoutOf(Gqa(30, 3, 64), DType::kF8_E4M3).row_group, 64);
  EXPECT_EQ(KvLayoutOf(Gqa(30, 3, 64), DType::kF8_E4M3).row_bytes(), 448);  // of 768 in bf16
  EXPECT_EQ(KvLayoutOf(Gqa(30, 3, 64), DType::kI8).row_group, 32);
  for (const int32_t head : {1, 16, 64, 80, 96, 128, 131, 160, 192, 256}) {
    for (const DType dtype : {DType::kF8_E4M3, DType::kI8}) {
      const KvLayout layout = KvLayoutOf(Gqa(2, 2, head), dtype);
      EXPECT_EQ(head % layout.row_group, 0) << head;
      EXPECT_LE(layout.row_group, 128) << head;
      EXPECT_EQ(layout.row_tail, 0);
    }
  }
}

TEST(KvLayoutOf, EveryTypeHasWholeCacheLinesAndPages) {
  for (const ModelConfig& config : {Mla(4), Mla(3, 32, 16), Mla(3, 40, 8), Gqa(5, 3, 64), Gqa(2, 1, 80), ModelConfig()}) {
    for (const char* name : {"f32", "f16", "bf16", "fp8", "int8"}) {
      const auto dtype = ParseKvType(name);
      ASSERT_TRUE(dtype) << name;
      EXPECT_EQ(KvTypeName(*dtype), name);
      const KvLayout layout = KvLayoutOf(config, *dtype);
      EXPECT_EQ(layout.row_bytes() % 64, 0);
      EXPECT_EQ(layout.layer_bytes() % 4096, 0);
      EXPECT_GE(layout.row_bytes(), layout.row().bytes());
    }
  }
  EXPECT_FALSE(ParseKvType("auto"));
  EXPECT_FALSE(ParseKvType("q4_0"));
}

}  // namespace
}  // namespace fathom
