// One training run, as a TOML file under recipes/ describes it (docs/formats/recipe.md).
//
// Plain data with the defaults that a key left out takes. ParseRecipe refuses unknown keys, wrong types and values out
// of range; messages name the key and the line. Relative paths are relative to the recipe's folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/model_config.h"

namespace fathom {

class Env;

/// Where documents come from.
struct DataSpec {
  enum class Kind {
    kText,   // plain text files (.txt, .txt.xz; .jsonl[.xz] with "text"); a file is cut at blank-line runs into pieces
    kChat,   // JSONL[.xz] of {"messages": [{role, content, reasoning_content?}…]}; loss on assistant turns only
    kTasks,  // problems of tasks/, made on the fly, as chat with thinking; loss on the answer
  };
  Kind kind = Kind::kText;
  std::vector<std::string> paths;  // files or globs; text and chat
  double weight = 1.0;             // share of the tokens drawn from here, against the stage's other sources
  // tasks
  uint64_t seed = 1;
  std::vector<std::string> families;  // empty: all
  double no_thinking_share = 0.0;     // of problems shown without a thinking trace
  bool held_out = false;
  // text: of each file, the last share (0 to 1) is held out; `held_out` picks which part this source reads.
  double held_out_share = 0.0;
};

enum class ScheduleKind { kConstant, kCosine, kWsd };  // WSD: warm-up, stable, decay (arXiv 2404.06395)

/// A stretch of the run: its data, and how many tokens of it.
struct StageSpec {
  std::string name;
  int64_t tokens = 0;
  std::vector<DataSpec> data;
};

struct Schedule {
  ScheduleKind kind = ScheduleKind::kWsd;
  int64_t warmup_tokens = 0;
  double decay_share = 0.2;  // kWsd: the last share of the run over which the rate falls (linearly)
  double final_share = 0.1;  // of the peak rate, at the end
};

struct OptimizerSpec {
  // Muon for hidden matrices and AdamW for the rest (embeddings, head, norms, gates), or AdamW for all.
  bool muon = true;
  double learning_rate = 5e-3;       // Muon's peak; its updates are scaled to AdamW's size
  double adam_learning_rate = 3e-3;  // AdamW's peak
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double momentum = 0.95;
  int newton_schulz_steps = 10;      // of Muon; 10 as V4, 5 where time matters more
  double weight_decay = 0.1;
  double clip_norm = 1.0;            // of the global gradient norm; 0: none
};

struct LossSpec {
  double mtp_weight = 0.3;                // lambda of V3, section 2.2
  double bias_update_speed = 0.001;       // gamma of the aux-loss-free balancing
  double sequence_balance_weight = 1e-4;  // alpha of the sequence-wise balance loss
};

struct Recipe {
  std::string name;
  std::string path;        // of the file
  std::string tokenizer;   // path of a tokenizer.json
  std::string output;      // folder for checkpoints, metrics, report and export
  uint64_t seed = 1;
  ModelConfig model;
  int64_t batch_tokens = 32768;        // an optimiser step takes so many, over all ranks
  int64_t micro_batch_tokens = 8192;   // one forward and backward pass takes so many
  int64_t sequence_length = 1024;      // the longest piece of a document
  bool bf16 = true;                    // matrix products in bf16, everything else in f32
  bool checkpoint_activations = false;
  OptimizerSpec optimizer;
  Schedule schedule;
  LossSpec loss;
  std::vector<StageSpec> stages;
  std::vector<DataSpec> validation;
  int64_t validation_tokens = 65536;
  int64_t validate_every_steps = 250;
  double checkpoint_minutes = 5;
  int keep_checkpoints = 2;
  double price_per_hour = 0;
  std::string currency = "USD";

  int64_t total_tokens() const {
    int64_t sum = 0;
    for (const StageSpec& stage : stages) sum += stage.tokens;
    return sum;
  }
};

/// The share (0 to 1) of the peak learning rate after `tokens` of `total` tokens.
double ScheduleShare(const Schedule& schedule, int64_t tokens, int64_t total);

/// text: the file's content. overrides: "key.sub=value" as given at the command line, TOML values.
Result<Recipe> ParseRecipe(std::string_view text, const std::string& path,
                           const std::vector<std::string>& overrides = {});
Result<Recipe> LoadRecipe(const std::string& path, const std::vector<std::string>& overrides = {});

}  // namespace fathom
