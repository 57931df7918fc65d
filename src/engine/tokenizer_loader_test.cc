#include "engine/tokenizer_loader.h"

#include <gtest/gtest.h>

namespace fathom {
namespace {

TEST(TokenizerLoader, SpecCarriesEveryField) {
  TokenizerSource source;
  source.tokenizer_json = "{}";
  source.tokenizer_config_json = "c";
  source.generation_config_json = "g";
  source.ggml_model = "gpt2";
  source.ggml_pre = "smollm";
  source.tokens = {"a", "b"};
  source.token_types = {1, 3};
  source.merges = {"a b"};
  source.bos_id = 1, source.eos_id = 2, source.pad_id = 3, source.unk_id = 4, source.eot_id = 5;
  source.eog_ids = {6, 7};
  source.add_bos = 1, source.add_eos = 0;
  const TokenizerSpec spec = SpecOf(source);
  EXPECT_EQ(spec.tokenizer_json, "{}");
  EXPECT_EQ(spec.tokenizer_config_json, "c");
  EXPECT_EQ(spec.generation_config_json, "g");
  EXPECT_EQ(spec.ggml_model, "gpt2");
  EXPECT_EQ(spec.ggml_pre, "smollm");
  EXPECT_EQ(spec.tokens.size(), 2u);
  EXPECT_EQ(spec.token_types[1], 3);
  EXPECT_EQ(spec.merges[0], "a b");
  EXPECT_EQ(spec.bos_id, 1);
  EXPECT_EQ(spec.eos_id, 2);
  EXPECT_EQ(spec.pad_id, 3);
  EXPECT_EQ(spec.unk_id, 4);
  EXPECT_EQ(spec.eot_id, 5);
  EXPECT_EQ(spec.eog_ids.size(), 2u);
  EXPECT_EQ(spec.add_bos, 1);
  EXPECT_EQ(spec.add_eos, 0);
}

TEST(TokenizerLoader, EmptySourceIsNotFound) {
  const auto tokenizer = LoadTokenizer(TokenizerSource{});
  ASSERT_FALSE(tokenizer.has_value());
  EXPECT_EQ(tokenizer.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace fathom
