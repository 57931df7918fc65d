// Command line options that several commands share, and their translation into the engine's structs.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"

namespace fathom {

/// What --kv-type takes.
inline const std::vector<std::string> kKvTypes = {"auto", "f32", "f16", "bf16", "fp8", "int8"};

struct ModelOptions {
  std::string model;
  int threads = 0;
  int32_t context = 0;
  std::string kv_type = "auto";
  std::string memory;  // empty: no promise
  MemoryPromise promise;  // what the command knows of it, but for the bytes
  std::string expert_memory = "0";
  std::string io;                // --io; empty: nothing was said
  int64_t beside_bytes = 0;      // ExpertOptions'
  std::string record_routing, replay_routing;
  double replay_guesses = 0;
  std::string speculate = "off";
  float expert_bias = 0;
  int32_t streamed_prefill_chunk = 0;  // EngineOptions'
  bool use_heat = true;                // routing statistics of earlier runs
  bool quiet = false;  // no progress, no closing statistics
};

/// -m, -t, --ctx, --kv-type, those of AddMemoryOptions, --expert-bias, --quiet.
void AddModelOptions(CLI::App& command, ModelOptions& options);
/// The same for a command that measures several strengths of --expert-bias one after the other; none given: empty.
void AddModelOptions(CLI::App& command, ModelOptions& options, std::vector<float>& expert_biases);
/// --expert-bias X[,X...] alone, in the group that AddMemoryOptions returned or elsewhere. how: what its help adds of the
/// way in which they are measured.
void AddExpertBiases(CLI::App& group, std::vector<float>& biases, const std::string& how = {});
/// Why a strength other than zero cannot be measured: nothing is streamed.
Status NothingToLeanTo();
/// --memory, --expert-memory, --io, --record-routing, --replay-routing.
CLI::App& AddMemoryOptions(CLI::App& command, ModelOptions& options);
/// --speculate, for commands that generate.
void AddSpeculationOption(CLI::App& command, ModelOptions& options);
/// What --expert-bias means, for its help.
inline constexpr const char* kExpertBiasHelp =
    "how much gates lean to experts that are in memory, from 0 (not at all) to 1 (before all others): each counts as if "
    "its logit were X times the distance between the token's largest and smallest logit higher; the weights stay the "
    "gate's own. Fewer reads, another model: 'fathom perplexity --expert-bias 0,0.1' and 'fathom eval' tell what it costs";

struct GenerationOptions {
  SamplingParams sampling;
  std::vector<std::string> logit_bias;  // "ID=V"
  std::vector<std::string> stop;
  int32_t max_tokens = -1;
  bool ignore_eos = false;
  std::string system;
  bool no_system = false;
  bool think = false, no_think = false;
  std::string chat_format;  // empty: the model's
};

void AddGenerationOptions(CLI::App& command, GenerationOptions& options);

/// Whether to ask for reasoning: what was said, else what the model does by itself.
bool WantsThinking(const GenerationOptions& options, const Engine& engine);

/// "123=-5" or "123=-inf"; kInvalidArgument otherwise.
Result<std::pair<TokenId, float>> ParseLogitBias(const std::string& text);
Result<GenerationParams> ToGenerationParams(const GenerationOptions& options, int32_t vocab_size);

/// Resolves -m and loads, with progress on stderr, and says what goes where under --memory and how experts are read. Hints are added to what can go
/// wrong.
Result<std::unique_ptr<Engine>> LoadEngine(const ModelOptions& options);
Result<EngineOptions> ToEngineOptions(const ModelOptions& options);
/// --memory in bytes; 0: no promise is asked for.
Result<int64_t> PromisedBytes(const ModelOptions& options);

}  // namespace fathom
