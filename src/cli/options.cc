#include "cli/options.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "cli/byte_size.h"
#include "cli/machine.h"
#include "cli/memory_report.h"
#include "cli/models.h"
#include "cli/option_checks.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "io/env.h"

namespace fathom {
namespace {

/// Where how often each expert is used is kept between runs; empty: nowhere.
std::string HeatFolder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/')
    return JoinPath(cache, "fathom/heat");
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') return JoinPath(home, ".cache/fathom/heat");
  return {};
}

/// All but --expert-bias; returns the group where that belongs.
CLI::App& AddCommonOptions(CLI::App& command, ModelOptions& options) {
  command
      .add_option("-m,--model", options.model,
                  "a .gguf file, a Hugging Face directory, or a pulled model's name; default: $FATHOM_MODEL or the "
                  "pulled model")
      ->type_name("MODEL")
      ->check(ModelName());
  command.add_option("-t,--threads", options.threads, "compute threads; default: one per core")
      ->type_name("N")
      ->check(WholeNumber(1, 1024));
  command
      .add_option("-c,--ctx", options.context,
                  "tokens that prompt and answer may have together; default: what the model was trained for, at most "
                  "32768")
      ->type_name("N")
      ->check(WholeNumber(1, 1 << 27));
  command
      .add_option("--kv-type", options.kv_type,
                  "element type of the KV cache: auto, f32, f16, bf16, fp8 or int8 (auto: bf16, f32 for F32 models; fp8 "
                  "and int8 need 0.6 of bf16's memory and cost a little accuracy)")
      ->type_name("TYPE")
      ->check(CLI::IsMember(kKvTypes));
  command.add_flag("-q,--quiet", options.quiet, "no progress and no statistics on stderr");
  return AddMemoryOptions(command, options);
}

}  // namespace

void AddModelOptions(CLI::App& command, ModelOptions& options) {
  AddCommonOptions(command, options)
      .add_option("--expert-bias", options.expert_bias, kExpertBiasHelp)
      ->type_name("X")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
}

void AddModelOptions(CLI::App& command, ModelOptions& options, std::vector<float>& expert_biases) {
  AddExpertBiases(AddCommonOptions(command, options), expert_biases);
}

void AddExpertBiases(CLI::App& group, std::vector<float>& biases, const std::string& how) {
  group
      .add_option("--expert-bias", biases,
                  std::string(kExpertBiasHelp) + ". Several, separated by commas, are measured one after the other" + how)
      ->type_name("X")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::Range(0.0, 1.0));
}

Status NothingToLeanTo() {
  return Fail(ErrorCode::kInvalidArgument, "--expert-bias: all experts are in memory, so there is nothing to lean to\n"
                                           "Give less memory with --expert-memory SIZE.");
}

CLI::App& AddMemoryOptions(CLI::App& command, ModelOptions& options) {
  auto* experts = command.add_option_group("Memory and experts");
  experts
      ->add_option("--memory", options.memory,
                   "a promise, e.g. 3GiB: weights, experts, keys and values and buffers together stay under it, the page "
                   "cache included; what does not fit is read from the file when it is wanted")
      ->type_name("SIZE");
  experts
      ->add_option("--expert-memory", options.expert_memory,
                   "memory for routed experts, e.g. 2GiB; those that do not fit are read from the file when they are "
                   "wanted. 0: as the file is mapped, or what --memory leaves for them")
      ->type_name("SIZE")
      ->capture_default_str();
  experts
      ->add_option("--io", options.io,
                   "how experts are read that are not in memory: direct (past the page cache), buffered (through it, beside "
                   "what --memory counts) or auto (both are measured at the start; under --memory direct); default: auto")
      ->type_name("HOW")
      ->check(CLI::IsMember({"auto", "direct", "buffered"}));
  experts
      ->add_option("--record-routing", options.record_routing,
                   "write which experts every token goes to ('fathom experts simulate' reads it)")
      ->type_name("FILE");
  experts
      ->add_option("--replay-routing", options.replay_routing,
                   "send tokens to the experts of a record instead (for measurements: the text means nothing)")
      ->type_name("FILE");
  experts
      ->add_option("--replay-guesses", options.replay_guesses,
                   "while replaying, the share of early guesses at the next layer's experts that are right; reports of runs "
                   "without replaying say what it is for a model")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  return *experts;
}

void AddSpeculationOption(CLI::App& command, ModelOptions& options) {
  command
      .add_option("--speculate", options.speculate,
                  "guess tokens ahead and keep those that would have come anyway: off, lookup (from text that repeats), "
                  "mtp (with the model's own MTP layer), auto (whatever is measured to be faster)")
      ->type_name("HOW")
      ->check(CLI::IsMember({"off", "auto", "lookup", "mtp"}))
      ->capture_default_str();
}

void AddGenerationOptions(CLI::App& command, GenerationOptions& options) {
  auto* group = command.add_option_group("Generation");
  SamplingParams& sampling = options.sampling;
  group->add_option("--temp,--temperature", sampling.temperature, "0: always the likeliest token")
      ->capture_default_str();
  group->add_option("--top-k", sampling.top_k, "only the K likeliest tokens; 0: all")->capture_default_str();
  group->add_option("--top-p", sampling.top_p, "only the likeliest tokens that together reach P")
      ->capture_default_str();
  group->add_option("--min-p", sampling.min_p, "only tokens with at least P times the best one's probability")
      ->capture_default_str();
  group->add_option("--repeat-penalty", sampling.repetition_penalty, "1: none; divides the logits of recent tokens")
      ->capture_default_str();
  group->add_option("--presence-penalty", sampling.presence_penalty, "subtracted once for a token already generated")
      ->capture_default_str();
  group->add_option("--frequency-penalty", sampling.frequency_penalty, "subtracted for each time it was generated")
      ->capture_default_str();
  group->add_option("--repeat-last-n", sampling.penalty_last_n, "tokens that penalties look back on; -1: all")
      ->capture_default_str();
  AddSeed(*group, "-s,--seed", sampling.seed, "the same seed gives the same answer; 0: a new one each time");
  group->add_option("--logit-bias", options.logit_bias, "ID=V adds V to a token's logit (-inf forbids it); repeatable")
      ->type_name("ID=V")
      ->allow_extra_args(false);  // one value each time: what follows is the prompt
  group->add_option("--stop", options.stop, "end before this text; repeatable")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  group->add_option("-n,--n,--max-tokens", options.max_tokens, "most tokens to generate; -1: until the context is full")
      ->capture_default_str()
      ->check(WholeNumber(-1, std::numeric_limits<int32_t>::max()));
  group->add_flag("--ignore-eos", options.ignore_eos, "go on where the model would end (for measurements)");
  group->add_option("--system", options.system, "system message; default: the model's own, if it has one");
  group->add_flag("--no-system", options.no_system, "no system message, not even the model's own");
  auto* think = group->add_flag("--think", options.think, "ask a hybrid model (DeepSeek-V3.1, fathom-nano) to reason first");
  group->add_flag("--no-think", options.no_think, "ask it to answer at once")->excludes(think);
  group->add_option("--chat-format", options.chat_format,
                    "override the prompt format: deepseek-v2, deepseek-v3, deepseek-r1, deepseek-v3.1, chatml, llama3");
}

bool WantsThinking(const GenerationOptions& options, const Engine& engine) {
  return options.think || (!options.no_think && engine.default_thinking());
}

Result<std::pair<TokenId, float>> ParseLogitBias(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals != std::string::npos) {
    TokenId id = 0;
    const char* id_end = text.data() + equals;
    const auto [end, id_error] = std::from_chars(text.data(), id_end, id);
    const std::string value = text.substr(equals + 1);
    float bias = 0;
    bool good = id_error == std::errc() && end == id_end && id >= 0;
    if (value == "-inf") {
      bias = -std::numeric_limits<float>::infinity();
    } else {
      const char* first = value.data() + (value.starts_with('+') ? 1 : 0);
      const auto [value_end, value_error] = std::from_chars(first, value.data() + value.size(), bias);
      good = good && value_error == std::errc() && value_end == value.data() + value.size() && std::isfinite(bias);
    }
    if (good) return std::pair(id, bias);
  }
  return Fail(ErrorCode::kInvalidArgument, "--logit-bias {}: not ID=V, e.g. 50256=-inf or 42=1.5", text);
}

Result<GenerationParams> ToGenerationParams(const GenerationOptions& options, int32_t vocab_size) {
  GenerationParams params;
  params.sampling = options.sampling;
  for (const std::string& text : options.logit_bias) {
    FATHOM_TRY(const auto bias, ParseLogitBias(text));
    params.sampling.logit_bias.push_back(bias);
  }
  params.max_tokens = options.max_tokens;
  params.ignore_eos = options.ignore_eos;
  for (const std::string& stop : options.stop) {
    if (stop.empty()) return Fail(ErrorCode::kInvalidArgument, "--stop: an empty text would stop at once");
    FATHOM_CHECK_OK(CheckUtf8("--stop", stop));
    params.stop.push_back(stop);
  }
  FATHOM_CHECK_OK(ValidateSampling(params.sampling, vocab_size));
  return params;
}

Result<int64_t> PromisedBytes(const ModelOptions& options) {
  if (options.memory.empty()) return 0;
  FATHOM_TRY(const int64_t bytes, ParseByteSize("--memory", options.memory));
  if (bytes == 0) return Fail(ErrorCode::kInvalidArgument, "--memory 0: nothing runs in no memory");
  return bytes;
}

Result<EngineOptions> ToEngineOptions(const ModelOptions& options) {
  EngineOptions engine;
  engine.threads = options.threads;
  engine.context_length = options.context;
  if (options.kv_type == "f32") engine.kv_type = KvType::kF32;
  if (options.kv_type == "f16") engine.kv_type = KvType::kF16;
  if (options.kv_type == "bf16") engine.kv_type = KvType::kBF16;
  if (options.kv_type == "fp8") engine.kv_type = KvType::kFp8;
  if (options.kv_type == "int8") engine.kv_type = KvType::kInt8;
  FATHOM_TRY(engine.experts.memory_bytes, ParseByteSize("--expert-memory", options.expert_memory));
  engine.promise = options.promise;
  FATHOM_TRY(engine.promise.bytes, PromisedBytes(options));
  if (!options.io.empty()) {
    if (engine.promise.bytes == 0 && engine.experts.memory_bytes == 0) {
      return Fail(ErrorCode::kInvalidArgument,
                  "--io {}: all experts are used where the file is mapped, so none is read\nSay how much memory there is with "
                  "--memory SIZE, or for experts alone with --expert-memory SIZE.", options.io);
    }
    const auto io = ParseExpertIo(options.io);
    if (!io) return Fail(ErrorCode::kInvalidArgument, "--io {}: not one of auto, direct, buffered", options.io);
    engine.experts.io = *io;
  }
  engine.experts.beside_bytes = options.beside_bytes;
  engine.experts.record_routing = options.record_routing;
  engine.experts.replay_routing = options.replay_routing;
  engine.experts.replay_guesses_right = options.replay_guesses;
  engine.experts.resident_bias = options.expert_bias;
  engine.streamed_prefill_chunk = options.streamed_prefill_chunk;
  if (options.use_heat) engine.experts.heat_directory = HeatFolder();
  engine.speculation = ParseSpeculationMode(options.speculate).value_or(SpeculationMode::kOff);
  return engine;
}

Result<std::unique_ptr<Engine>> LoadEngine(const ModelOptions& options) {
  FATHOM_TRY(const std::string path, ResolveModel(options.model));
  FATHOM_TRY(EngineOptions engine_options, ToEngineOptions(options));
  Progress::Options progress_options;
  progress_options.unit = Progress::Unit::kShare;
  progress_options.quiet = options.quiet;
  Progress progress("loading", std::move(progress_options));
  engine_options.progress = [&](std::string_view what, double share) {
    progress.Update(static_cast<int64_t>(share * 1000), 1000, what);
  };
  FATHOM_TRY(auto engine, Engine::Load(path, engine_options));
  progress.Finish();
  if (const auto plan = engine->memory_plan(); plan && !options.quiet) {
    const Machine machine = ExamineMachine();
    std::fputs(PlanTable(*plan, engine->read_rate()).c_str(), stderr);
    if (machine.memory_limit > 0 && machine.memory_limit < plan->budget) {
      std::fprintf(stderr, "warning: this process may take %s (cgroup), less than --memory\n",
                   HumanBytes(machine.memory_limit).c_str());
    }
  }
  if (const auto experts = engine->expert_stats(); experts && !options.quiet)
    std::fprintf(stderr, "%s\n", IoLine(experts->io).c_str());
  return engine;
}

}  // namespace fathom
