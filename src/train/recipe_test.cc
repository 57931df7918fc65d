#include "train/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "train/toml_reader.h"

namespace fathom {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kMinimal[] = R"(name = "tiny"
[tokenizer]
path = "../models/tokenizer.json"
[output]
path = "out"
[model]
vocab_size = 4096
hidden_size = 64
intermediate_size = 128
num_hidden_layers = 2
num_attention_heads = 4
kv_lora_rank = 16
qk_nope_head_dim = 16
qk_rope_head_dim = 8
v_head_dim = 16
[[stage]]
tokens = 1_000_000
[[stage.data]]
kind = "text"
paths = ["a/*.txt", "/abs/b.txt.xz"]
)";

std::string ErrorOf(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto recipe = ParseRecipe(text, "recipes/tiny.toml", overrides);
  if (recipe) return "no error";
  EXPECT_EQ(recipe.error().code, ErrorCode::kInvalidArgument);
  return recipe.error().message;
}

std::string With(const std::string& old_text, const std::string& new_text) {
  std::string text = kMinimal;
  const size_t at = text.find(old_text);
  EXPECT_NE(at, std::string::npos);
  return text.replace(at, old_text.size(), new_text);
}

TEST(Recipe, DefaultsOfAMinimalOne) {
  const auto recipe = ParseRecipe(kMinimal, "recipes/tiny.toml");
  ASSERT_TRUE(recipe) << recipe.error().message;
  EXPECT_EQ(recipe->name, "tiny");
  EXPECT_EQ(recipe->tokenizer, "models/tokenizer.json");
  EXPECT_EQ(recipe->output, "recipes/out");
  EXPECT_EQ(recipe->model.moe.n_routed_experts, 0);
  EXPECT_EQ(recipe->model.moe.scoring_func, GatingFunction::kSigmoid);
  EXPECT_TRUE(recipe->model.moe.has_correction_bias);
  EXPECT_EQ(recipe->model.rope.layout, RopeLayout::kInterleaved);
  EXPECT_EQ(recipe->model.rope.dim, 8);
  EXPECT_EQ(recipe->model.architecture, "DeepseekV3ForCausalLM");
  EXPECT_EQ(recipe->batch_tokens, 32768);
  EXPECT_TRUE(recipe->optimizer.muon);
  EXPECT_EQ(recipe->schedule.kind, ScheduleKind::kWsd);
  ASSERT_EQ(recipe->stages.size(), 1u);
  EXPECT_EQ(recipe->stages[0].name, "stage1");
  EXPECT_EQ(recipe->total_tokens(), 1000000);
  EXPECT_EQ(recipe->stages[0].data[0].paths, (std::vector<std::string>{"recipes/a/*.txt", "/abs/b.txt.xz"}));
}

TEST(Recipe, EveryKeyArrives) {
  const auto recipe = ParseRecipe(R"(
name = "all"
seed = 7
tokenizer.path = "t.json"
output.path = "o"
[model]
vocab_size = 512
hidden_size = 96
intermediate_size = 200
num_hidden_layers = 5
num_nextn_predict_layers = 1
num_attention_heads = 6
max_position_embeddings = 2048
rms_norm_eps = 1e-5
tie_word_embeddings = true
rope_theta = 50000
q_lora_rank = 24
kv_lora_rank = 32
qk_nope_head_dim = 12
qk_rope_head_dim = 4
v_head_dim = 20
n_routed_experts = 16
num_experts_per_tok = 4
n_shared_experts = 2
moe_intermediate_size = 48
first_k_dense_replace = 1
n_group = 4
topk_group = 2
norm_topk_prob = false
routed_scaling_factor = 1.5
scoring_func = "sigmoid"
[batch]
tokens = 4096
micro_tokens = 1024
sequence_length = 256
[precision]
matmul = "f32"
checkpoint_activations = true
[optimizer]
kind = "adamw"
learning_rate = 0.01
adam_learning_rate = 0.002
beta1 = 0.8
beta2 = 0.99
epsilon = 1e-9
momentum = 0.9
weight_decay = 0.05
clip_norm = 2
[schedule]
kind = "cosine"
warmup_tokens = 100
decay_share = 0.3
final_share = 0.2
[loss]
mtp_weight = 0.1
bias_update_speed = 0.002
sequence_balance_weight = 0
[[stage]]
name = "prose"
tokens = 10
[[stage.data]]
kind = "text"
paths = "x.txt"
weight = 3
held_out_share = 0.01
[[stage]]
name = "tasks"
tokens = 20
[[stage.data]]
kind = "tasks"
seed = 9
families = ["arithmetic"]
no_thinking_share = 0.25
[[stage.data]]
kind = "chat"
paths = ["c.jsonl"]
[validation]
tokens = 99
every_steps = 5
[[validation.data]]
kind = "text"
paths = "x.txt"
held_out_share = 0.01
held_out = true
[checkpoint]
minutes = 1.5
keep = 3
[cost]
price_per_hour = 2.5
currency = "EUR"
)", "");
  ASSERT_TRUE(recipe) << recipe.error().message;
  const ModelConfig& model = recipe->model;
  EXPECT_EQ(recipe->seed, 7u);
  EXPECT_EQ(recipe->tokenizer, "t.json");
  EXPECT_EQ(recipe->output, "o");
  EXPECT_EQ(model.vocab_size, 512);
  EXPECT_EQ(model.hidden_size, 96);
  EXPECT_EQ(model.intermediate_size, 200);
  EXPECT_EQ(model.num_hidden_layers, 5);
  EXPECT_EQ(model.num_nextn_predict_layers, 1);
  EXPECT_EQ(model.num_attention_heads, 6);
  EXPECT_EQ(model.max_position_embeddings, 2048);
  EXPECT_FLOAT_EQ(model.rms_norm_eps, 1e-5f);
  EXPECT_TRUE(model.tie_word_embeddings);
  EXPECT_FLOAT_EQ(model.rope.theta, 50000);
  EXPECT_EQ(model.mla.q_lora_rank, 24);
  EXPECT_EQ(model.mla.kv_lora_rank, 32);
  EXPECT_EQ(model.mla.qk_nope_head_dim, 12);
  EXPECT_EQ(model.mla.qk_rope_head_dim, 4);
  EXPECT_EQ(model.mla.v_head_dim, 20);
  EXPECT_EQ(model.moe.n_routed_experts, 16);
  EXPECT_EQ(model.moe.num_experts_per_tok, 4);
  EXPECT_EQ(model.moe.n_shared_experts, 2);
  EXPECT_EQ(model.moe.moe_intermediate_size, 48);
  EXPECT_EQ(model.moe.first_k_dense_replace, 1);
  EXPECT_EQ(model.moe.n_group, 4);
  EXPECT_EQ(model.moe.topk_group, 2);
  EXPECT_FALSE(model.moe.norm_topk_prob);
  EXPECT_FLOAT_EQ(model.moe.routed_scaling_factor, 1.5f);
  EXPECT_EQ(recipe->batch_tokens, 4096);
  EXPECT_EQ(recipe->micro_batch_tokens, 1024);
  EXPECT_EQ(recipe->sequence_length, 256);
  EXPECT_FALSE(recipe->bf16);
  EXPECT_TRUE(recipe->checkpoint_activations);
  const OptimizerSpec& optimizer = recipe->optimizer;
  EXPECT_FALSE(optimizer.muon);
  EXPECT_EQ(optimizer.learning_rate, 0.01);
  EXPECT_EQ(optimizer.adam_learning_rate, 0.002);
  EXPECT_EQ(optimizer.beta1, 0.8);
  EXPECT_EQ(optimizer.beta2, 0.99);
  EXPECT_EQ(optimizer.epsilon, 1e-9);
  EXPECT_EQ(optimizer.momentum, 0.9);
  EXPECT_EQ(optimizer.weight_decay, 0.05);
  EXPECT_EQ(optimizer.clip_norm, 2);
  EXPECT_EQ(recipe->schedule.kind, ScheduleKind::kCosine);
  EXPECT_EQ(recipe->schedule.warmup_tokens, 100);
  EXPECT_EQ(recipe->schedule.decay_share, 0.3);
  EXPECT_EQ(recipe->schedule.final_share, 0.2);
  EXPECT_EQ(recipe->loss.mtp_weight, 0.1);
  EXPECT_EQ(recipe->loss.bias_update_speed, 0.002);
  EXPECT_EQ(recipe->loss.sequence_balance_weight, 0);
  ASSERT_EQ(recipe->stages.size(), 2u);
  EXPECT_EQ(recipe->stages[0].data[0].weight, 3);
  EXPECT_EQ(recipe->stages[0].data[0].held_out_share, 0.01);
  EXPECT_EQ(recipe->stages[1].name, "tasks");
  ASSERT_EQ(recipe->stages[1].data.size(), 2u);
  const DataSpec& tasks = recipe->stages[1].data[0];
  EXPECT_EQ(tasks.kind, DataSpec::Kind::kTasks);
  EXPECT_EQ(tasks.seed, 9u);
  EXPECT_EQ(tasks.families, std::vector<std::string>{"arithmetic"});
  EXPECT_EQ(tasks.no_thinking_share, 0.25);
  EXPECT_EQ(recipe->stages[1].data[1].kind, DataSpec::Kind::kChat);
  EXPECT_EQ(recipe->total_tokens(), 30);
  EXPECT_EQ(recipe->validation_tokens, 99);
  EXPECT_EQ(recipe->validate_every_steps, 5);
  ASSERT_EQ(recipe->validation.size(), 1u);
  EXPECT_TRUE(recipe->validation[0].held_out);
  EXPECT_EQ(recipe->checkpoint_minutes, 1.5);
  EXPECT_EQ(recipe->keep_checkpoints, 3);
  EXPECT_EQ(recipe->price_per_hour, 2.5);
  EXPECT_EQ(recipe->currency, "EUR");
}

TEST(Recipe, UnknownKeysAreNamedWithLineAndNearName) {
  EXPECT_THAT(ErrorOf(With("hidden_size", "hiden_size")),
              AllOf(HasSubstr("recipes/tiny.toml: line 6: model.hidden_size is missing")));
  EXPECT_THAT(ErrorOf(With("[output]", "[optimiser]\nmuon = 1\n[output]")),
              AllOf(HasSubstr("line 4"), HasSubstr("optimiser is not a key"), HasSubstr("did you mean optimizer?")));
  EXPECT_THAT(ErrorOf(With("[[stage]]", "[optimizer]\nlearning_rat = 1\n[[stage]]")),
              AllOf(HasSubstr("line 17"), HasSubstr("optimizer.learning_rat is not a key"),
                    HasSubstr("did you mean learning_rate?")));
  EXPECT_THAT(ErrorOf(With("paths = [", "zzzzqqqq = 1\npaths = [")),
              AllOf(HasSubstr("line 20"), HasSubstr("stage[0].data[0].zzzzqqqq"), HasSubstr("here are kind, weight")));
  EXPECT_THAT(ErrorOf(With("tokens = 1_000", "nmae = 'x'\ntokens = 1_000")),
              AllOf(HasSubstr("stage[0].nmae"), HasSubstr("did you mean name?")));
  // A key that belongs to another kind of source.
  EXPECT_THAT(ErrorOf(With("kind = \"text\"", "kind = \"text\"\nfamilies = ['x']")), HasSubstr("families is not a key"));
}

TEST(Recipe, WrongTypesAndRanges) {
  EXPECT_THAT(ErrorOf(With("hidden_size = 64", "hidden_size = '64'")),
              AllOf(HasSubstr("line 8"), HasSubstr("model.hidden_size is a string; it takes an integer")));
  EXPECT_THAT(ErrorOf(With("hidden_size = 64", "hidden_size = 64.0")), HasSubstr("takes an integer"));
  EXPECT_THAT(ErrorOf(With("hidden_size = 64", "hidden_size = -1")), HasSubstr("model.hidden_size is -1"));
  EXPECT_THAT(ErrorOf(With("hidden_size = 64", "hidden_size = 9999999999999")), HasSubstr("model.hidden_size"));
  EXPECT_THAT(ErrorOf(With("hidden_size = 64", "hidden_size = 0")),
              AllOf(HasSubstr("line 8"), HasSubstr("model.hidden_size is 0; 1 to")));
  EXPECT_THAT(ErrorOf(With("qk_rope_head_dim = 8", "qk_rope_head_dim = 7")), HasSubstr("even"));
  EXPECT_THAT(ErrorOf(With("[[stage]]", "n_routed_experts = 8\n[[stage]]")), HasSubstr("model.num_experts_per_tok"));
  EXPECT_THAT(ErrorOf(With("[[stage]]", "scoring_func = 'softmax'\n[[stage]]")),
              AllOf(HasSubstr("model.scoring_func is \"softmax\""), HasSubstr("sigmoid")));
  EXPECT_THAT(ErrorOf(With("tokens = 1_000_000", "tokens = 0")), HasSubstr("stage[0].tokens is 0"));
  EXPECT_THAT(ErrorOf(With("tokens = 1_000_000", "")), HasSubstr("stage[0].tokens is missing"));
  EXPECT_THAT(ErrorOf(With("\"text\"", "\"prose\"")), AllOf(HasSubstr("stage[0].data[0].kind"), HasSubstr("text, chat, tasks")));
  EXPECT_THAT(ErrorOf(With("paths = [", "weight = nan\npaths = [")), HasSubstr("weight is nan"));
  EXPECT_THAT(ErrorOf(With("paths = [\"a/*.txt\", \"/abs/b.txt.xz\"]", "paths = []")), HasSubstr("names no file"));
  EXPECT_THAT(ErrorOf(With("paths = [\"a/*.txt\"", "paths = [3")), HasSubstr("list of strings"));
  EXPECT_THAT(ErrorOf(With("paths = [", "held_out_share = 1.0\npaths = [")), HasSubstr("held_out_share is 1"));
  EXPECT_THAT(ErrorOf(With("[output]\npath = \"out\"", "")), HasSubstr("output.path is missing"));
  EXPECT_THAT(ErrorOf("output = 3\ntokenizer.path = 't'\n"), HasSubstr("output is an integer; it takes a table"));
  EXPECT_THAT(ErrorOf(With("[[stage]]", "[batch]\ntokens=1000\nmicro_tokens=300\n[[stage]]")),
              HasSubstr("not a multiple"));
  EXPECT_THAT(ErrorOf(With("[[stage]]", "[batch]\nmicro_tokens=512\nsequence_length=1024\n[[stage]]")),
              HasSubstr("sequence_length (1024) is more than"));
  EXPECT_THAT(ErrorOf(std::string(kMinimal).substr(0, std::string(kMinimal).find("[[stage]]"))), HasSubstr("no [[stage]]"));
}

TEST(Recipe, HeldOutTextIsNotTrainedOn) {
  const std::string validation = "\n[[validation.data]]\nkind='text'\npaths=['a/*.txt']\nheld_out=true\nheld_out_share=";
  EXPECT_THAT(ErrorOf(std::string(kMinimal) + validation + "0.02\n"),
              AllOf(HasSubstr("a/*.txt"), HasSubstr("same held_out_share")));
  EXPECT_THAT(ErrorOf(std::string(kMinimal) + validation + "0\n"), HasSubstr("held_out needs held_out_share"));
  EXPECT_THAT(ErrorOf(std::string(kMinimal) + "held_out = true\nheld_out_share = 0.1\n"),
              HasSubstr("cannot train on what is held out"));
  EXPECT_EQ(ErrorOf(std::string(kMinimal) + "held_out_share = 0.02\n" + validation + "0.02\n"), "no error");
}

TEST(Recipe, Overrides) {
  const auto recipe = ParseRecipe(kMinimal, "recipes/tiny.toml",
                                  {"optimizer.learning_rate=0.5", "stage.0.tokens=77", "output.path=else/where",
                                   "name=\"b\"", "model.tie_word_embeddings=true", "stage.0.data.0.weight=2"});
  ASSERT_TRUE(recipe) << recipe.error().message;
  EXPECT_EQ(recipe->optimizer.learning_rate, 0.5);
  EXPECT_EQ(recipe->stages[0].tokens, 77);
  EXPECT_EQ(recipe->output, "else/where");  // as typed, not beside the recipe
  EXPECT_EQ(recipe->name, "b");
  EXPECT_TRUE(recipe->model.tie_word_embeddings);
  EXPECT_EQ(recipe->stages[0].data[0].weight, 2);

  EXPECT_THAT(ErrorOf(kMinimal, {"optimizer.learning_rat=1"}),
              AllOf(HasSubstr("--set optimizer.learning_rat=1"), HasSubstr("did you mean learning_rate?")));
  EXPECT_THAT(ErrorOf(kMinimal, {"optimizer.learning_rate=fast"}),
              AllOf(HasSubstr("--set optimizer.learning_rate=fast"), HasSubstr("a string; it takes a number")));
  EXPECT_THAT(ErrorOf(kMinimal, {"seed"}), HasSubstr("key.sub=value"));
  EXPECT_THAT(ErrorOf(kMinimal, {"=3"}), HasSubstr("key.sub=value"));
  EXPECT_THAT(ErrorOf(kMinimal, {"seed="}), HasSubstr("not TOML"));
  EXPECT_THAT(ErrorOf(kMinimal, {"seed=1\nname='x'"}), HasSubstr("not TOML"));
  EXPECT_THAT(ErrorOf(kMinimal, {"stage.1.tokens=3"}), HasSubstr("no index of a list of 1"));
  EXPECT_THAT(ErrorOf(kMinimal, {"name.x=3"}), HasSubstr("not a table"));
  EXPECT_THAT(ErrorOf(kMinimal, {"a..b=3"}), HasSubstr("empty part"));
}

TEST(Recipe, HostileToml) {
  EXPECT_THAT(ErrorOf("[model\nx = 1"), HasSubstr("recipes/tiny.toml: line 1"));
  EXPECT_THAT(ErrorOf("x = 1\nx = 2"), HasSubstr("line 2"));
  EXPECT_THAT(ErrorOf("x = \"\xff\xfe\""), HasSubstr("line 1"));
  EXPECT_THAT(ErrorOf("x = " + std::string(100000, '[')), HasSubstr("line 1"));
  std::string dotted = "a";
  for (int i = 0; i < 200000; ++i) dotted += ".a";
  EXPECT_THAT(ErrorOf(dotted + " = 1"), HasSubstr("too many dots"));
  EXPECT_THAT(ErrorOf("[" + dotted + "]"), HasSubstr("too many dots"));
  EXPECT_THAT(ErrorOf(std::string("name = \"a\\u0000b\"\n") + std::string(kMinimal).substr(14)), HasSubstr("zero byte"));
  EXPECT_THAT(ErrorOf("x = 99999999999999999999999999"), HasSubstr("line 1"));
  EXPECT_THAT(ErrorOf(With("vocab_size", "\"\\u001b[31m\" = 1\nvocab_size")), ::testing::Not(HasSubstr("\x1b")));
  EXPECT_NE(ErrorOf(""), "no error");
  EXPECT_NE(ErrorOf(std::string(10, '\0')), "no error");
}

TEST(Recipe, MissingFile) {
  const auto recipe = LoadRecipe("no/such/recipe.toml");
  ASSERT_FALSE(recipe);
  EXPECT_EQ(recipe.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(recipe.error().message, HasSubstr("no/such/recipe.toml"));
}

TEST(Recipe, ScheduleShares) {
  Schedule wsd{.kind = ScheduleKind::kWsd, .warmup_tokens = 100, .decay_share = 0.2, .final_share = 0.1};
  EXPECT_DOUBLE_EQ(ScheduleShare(wsd, 0, 1000), 0);
  EXPECT_DOUBLE_EQ(ScheduleShare(wsd, 50, 1000), 0.5);
  EXPECT_DOUBLE_EQ(ScheduleShare(wsd, 100, 1000), 1);
  EXPECT_DOUBLE_EQ(ScheduleShare(wsd, 800, 1000), 1);
  EXPECT_NEAR(ScheduleShare(wsd, 900, 1000), 0.55, 1e-12);
  EXPECT_NEAR(ScheduleShare(wsd, 1000, 1000), 0.1, 1e-12);
  EXPECT_NEAR(ScheduleShare(wsd, 5000, 1000), 0.1, 1e-12);
  Schedule cosine{.kind = ScheduleKind::kCosine, .warmup_tokens = 0, .final_share = 0.2};
  EXPECT_DOUBLE_EQ(ScheduleShare(cosine, 0, 1000), 1);
  EXPECT_NEAR(ScheduleShare(cosine, 500, 1000), 0.6, 1e-12);
  EXPECT_NEAR(ScheduleShare(cosine, 1000, 1000), 0.2, 1e-12);
  Schedule constant{.kind = ScheduleKind::kConstant, .warmup_tokens = 10};
  EXPECT_DOUBLE_EQ(ScheduleShare(constant, 5, 1000), 0.5);
  EXPECT_DOUBLE_EQ(ScheduleShare(constant, 999, 1000), 1);
  EXPECT_TRUE(std::isfinite(ScheduleShare(wsd, 0, 0)));
}

TEST(Recipe, NearestNames) {
  EXPECT_EQ(NearestName("optimiser", {"optimizer", "output"}), "optimizer");
  EXPECT_EQ(NearestName("lr", {"learning_rate", "beta1"}), "");
  EXPECT_EQ(NearestName(std::string(100, 'a'), {std::string_view("aaaa")}), "");
}

}  // namespace
}  // namespace fathom
