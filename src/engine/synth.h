// `fathom synth`: writes a GGUF of any configuration with seeded random weights, so that speed and memory can be tried
// on models whose weights are not at hand. What comes out of such a model is noise, but its shapes, types, routing
// spread and file size are those of the real one, and llama.cpp and ik_llama.cpp load it.
//
// The same configuration, type, layout and seed give the same bytes, whatever the number of threads. The file appears
// whole under its name or not at all (io/file_writer.h): errors and cancellation remove what was written.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "engine/synth_tensors.h"
#include "format/model_config.h"

namespace fathom {

class Env;

struct SynthOptions {
  std::string config;                // name in SynthConfigs(), or path of a config.json or its directory
  std::string type = "q4_k_m";       // name in QuantRecipes()
  std::string output;                // path of the GGUF
  uint64_t seed = 1;
  int32_t layers = 0;                // 0: as the configuration says; else "the same widths, so many layers"
  int32_t vocab_size = 0;            // 0: as the configuration says
  int32_t q_lora_rank = -1;          // -1: as the configuration says; 0: queries by one matrix. (ik_llama.cpp loads
                                     // models without q_lora only when they have 26 or 27 layers.)
  GgufLayout layout = GgufLayout::kMainline;
  int threads = 0;                   // 0: one per available core
  int64_t reserve_bytes = int64_t{1} << 30;  // disk space that must stay free
  bool overwrite = false;            // replace any existing output; else only an empty file or one of synth's own
  /// Called now and then from the calling thread with bytes done and in all; false stops (kCancelled). May be empty.
  std::function<bool(int64_t done, int64_t total)> progress;
};

/// What will be, or was, written.
struct SynthSummary {
  ModelConfig config;
  std::string type;            // the recipe's name
  int64_t file_bytes = 0;      // 0 from PlanSynth
  int64_t tensor_bytes = 0;
  int64_t tensors = 0;
  ParameterCount parameters;
};

/// The configuration with the options' overrides, validated. Errors: kInvalidArgument for an unknown name or an
/// override out of range, kNotFound / kCorrupt / kUnsupported for a config.json.
Result<ModelConfig> ResolveSynthConfig(const SynthOptions& options);

/// Sizes without writing.
Result<SynthSummary> PlanSynth(const SynthOptions& options);

/// Writes the file. Errors: as above, kResource (disk or memory, before anything is written where possible), kIo,
/// kCancelled.
Result<SynthSummary> WriteSynth(const SynthOptions& options);
/// The same through another Env (tests).
Result<SynthSummary> WriteSynth(const SynthOptions& options, Env& env);

}  // namespace fathom
