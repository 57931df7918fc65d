// fathom plan: what training a model would cost, before anything is bought.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/option_checks.h"
#include "cli/terminal.h"
#include "plan/accelerators.h"
#include "plan/training.h"

namespace fathom {
namespace {

struct PlanOptions {
  std::string training;
  std::string device = "h800";
  double tokens = 0, sequence_length = 0, mfu = 0, price = -1, device_tflops = 0, memory_gb = 0;
  double bytes_per_parameter = 14;
  int64_t devices = 0;
  bool recompute = false, explain = false, json = false, list = false;
};

constexpr std::string_view kExplanation =
    "\nHow it is counted (docs/training-cost.md):\n"
    "  forward FLOPs a token = 2 for every active weight that is multiplied with (attention, experts used, router,\n"
    "    head, MTP layers; not the embedding) + 2 heads (qk_head_dim + v_head_dim) (S + 1)/2 a layer for attention\n"
    "    over a causal sequence of S tokens\n"
    "  training FLOPs = 3 x forward (the backward pass costs two)\n"
    "  device-hours = training FLOPs x tokens / (peak x MFU x 3600)\n"
    "  MFU: the share of the dense BF16 peak that becomes model arithmetic. The default is what DeepSeek-V3's\n"
    "    2.664 M H800-hours for 14.8 T tokens imply by this same count\n"
    "  memory: 14 bytes a parameter (BF16 weights 2, FP32 master weights 4, FP32 gradients 4, two BF16 moments 4),\n"
    "    once over all devices; and on each device the activations of one sequence through the whole model, since a\n"
    "    pipeline of P stages keeps P micro-batches of 1/P of the layers (norms, up-projections and SwiGLU's products\n"
    "    are made again, as V3 does; with --recompute whole layers are); 10 % of memory stays free\n";

void PrintRow(const char* what, const std::string& value) { std::printf("  %-30s %s\n", what, value.c_str()); }

std::string Gigabytes(double bytes) { return fmt::format("{:.1f} GB", bytes / 1e9); }

// 5.33 M, 812.3 K, 37.2
std::string Rounded(double value) {
  return value >= 1e6 ? fmt::format("{:.3f} M", value / 1e6) : value >= 1e4 ? fmt::format("{:.1f} K", value / 1e3)
                                                                            : fmt::format("{:.4g}", value);
}

struct Answer {
  TrainingTarget target;
  TrainingInput input;
  TrainingPlan plan;
  std::string device;
  bool default_mfu = false;
};

// Activations do not fit a device: what would.
std::string WhatWouldFit(const Answer& answer) {
  TrainingInput input = answer.input;
  input.recompute = true;
  const TrainingPlan plan = PlanTraining(answer.target.config, input);
  if (plan.least_devices == 0)
    return fmt::format("none: activations do not fit {}; try a shorter --sequence", Gigabytes(input.memory_bytes));
  return fmt::format("none as it is; {} of {} with --recompute", plan.least_devices, Gigabytes(input.memory_bytes));
}

Result<Answer> Ask(const PlanOptions& options) {
  Answer out;
  FATHOM_TRY(out.target, LoadTrainingTarget(options.training));
  TrainingInput& input = out.input;
  input.tokens = options.tokens > 0 ? options.tokens : out.target.tokens.value_or(0);
  if (input.tokens <= 0)
    return Fail(ErrorCode::kInvalidArgument, "over how many tokens? Give --tokens, e.g. --tokens 14.8e12");
  input.sequence_length = options.sequence_length > 0 ? options.sequence_length
                                                      : out.target.sequence_length.value_or(kV3SequenceLength);
  if (options.device_tflops > 0) {
    out.device = fmt::format("{:g} TFLOP/s", options.device_tflops);
    input.device_flops = options.device_tflops * 1e12;
  } else {
    FATHOM_TRY(const Accelerator device, FindAccelerator(options.device));
    out.device = std::string(device.name);
    input.device_flops = device.bf16_flops;
    input.memory_bytes = device.memory_bytes;
  }
  if (options.memory_gb > 0) input.memory_bytes = options.memory_gb * 1e9;
  out.default_mfu = options.mfu <= 0;
  input.mfu = out.default_mfu ? V3Utilisation() : options.mfu;
  input.price_per_hour = options.price >= 0 ? options.price : out.target.price_per_hour.value_or(kV3PricePerHour);
  input.bytes_per_parameter = options.bytes_per_parameter;
  input.recompute = options.recompute;
  input.devices = options.devices;
  out.plan = PlanTraining(out.target.config, input);
  return out;
}

void PrintText(const Answer& answer) {
  const auto& [target, input, plan, device, default_mfu] = answer;
  std::printf("Training %s\n", target.name.c_str());
  PrintRow("parameters", fmt::format("{} ({} active)", HumanCount(plan.parameters.total),
                                     HumanCount(plan.parameters.active)));
  if (plan.mtp_parameters > 0) PrintRow("  and MTP layers", HumanCount(plan.mtp_parameters));
  PrintRow("tokens", fmt::format("{} in sequences of {:g}", HumanCount(static_cast<int64_t>(input.tokens)),
                                 input.sequence_length));
  const FlopsPerToken& f = plan.forward;
  const double all = f.forward();
  PrintRow("FLOPs a token, forward", fmt::format("{:.4g} G", all / 1e9));
  const auto share = [&](const char* what, double part) {
    if (part > 0) PrintRow(what, fmt::format("{:7.4g} G  {:4.1f} %", part / 1e9, 100 * part / all));
  };
  share("  attention projections", f.attention);
  share("  attention scores", f.scores);
  share("  experts", f.experts);
  share("  dense layers", f.dense);
  share("  router", f.router);
  share("  head", f.head);
  share("  MTP", f.mtp);
  PrintRow("FLOPs a token, training", fmt::format("{:.4g} G", plan.flops_per_token / 1e9));
  PrintRow("FLOPs in all", fmt::format("{:.4g}", plan.total_flops));
  PrintRow("device", fmt::format("{}, {:.4g} TFLOP/s BF16", device, input.device_flops / 1e12));
  PrintRow("utilisation (MFU)",
           fmt::format("{:.1f} %{}", 100 * input.mfu, default_mfu ? ", as DeepSeek-V3's hours imply" : ""));
  PrintRow("device-hours", Rounded(plan.device_hours));
  if (input.price_per_hour > 0)
    PrintRow("cost", fmt::format("{} {} at {:g} an hour", target.currency, Rounded(plan.cost), input.price_per_hour));
  PrintRow("weights, gradients, optimiser",
           fmt::format("{} ({:g} bytes a parameter)", Gigabytes(plan.state_bytes), input.bytes_per_parameter));
  PrintRow("activations, a device",
           Gigabytes(plan.activation_bytes) + (input.recompute ? ", layers recomputed" : ""));
  if (input.memory_bytes > 0) {
    PrintRow("least number of devices",
             plan.least_devices > 0 ? fmt::format("{} of {}", plan.least_devices, Gigabytes(input.memory_bytes))
                                    : WhatWouldFit(answer));
  }
  if (plan.devices > 0) PrintRow("time", fmt::format("{:.4g} days on {} devices", plan.days, plan.devices));
}

void PrintJson(const Answer& answer) {
  const auto& [target, input, plan, device, default_mfu] = answer;
  const FlopsPerToken& f = plan.forward;
  nlohmann::ordered_json json = {
      {"model", target.name},
      {"parameters_total", plan.parameters.total},
      {"parameters_active", plan.parameters.active},
      {"mtp_parameters", plan.mtp_parameters},
      {"tokens", input.tokens},
      {"sequence_length", input.sequence_length},
      {"forward_flops_per_token",
       {{"attention", f.attention}, {"scores", f.scores}, {"experts", f.experts}, {"dense", f.dense},
        {"router", f.router}, {"head", f.head}, {"mtp", f.mtp}, {"total", f.forward()}}},
      {"training_flops_per_token", plan.flops_per_token},
      {"total_flops", plan.total_flops},
      {"device", device},
      {"device_flops", input.device_flops},
      {"mfu", input.mfu},
      {"device_hours", plan.device_hours},
      {"price_per_hour", input.price_per_hour},
      {"currency", target.currency},
      {"cost", plan.cost},
      {"state_bytes", plan.state_bytes},
      {"activation_bytes", plan.activation_bytes},
      {"memory_bytes", input.memory_bytes},
      {"least_devices", plan.least_devices},
      {"devices", plan.devices},
      {"days", plan.days},
  };
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

Status RunPlan(const PlanOptions& options) {
  if (options.list) {
    std::printf("Devices (--device), dense peaks:\n");
    for (const Accelerator& one : Accelerators()) {
      std::printf("  %-8s %7.1f TFLOP/s BF16  %7s FP8  %4.0f GB  %s\n", std::string(one.name).c_str(),
                  one.bf16_flops / 1e12, one.fp8_flops > 0 ? fmt::format("{:.1f}", one.fp8_flops / 1e12).c_str() : "-",
                  one.memory_bytes / 1e9, std::string(one.source).c_str());
    }
    return {};
  }
  if (options.training.empty()) {
    return Fail(ErrorCode::kInvalidArgument,
                "plan what? Give --training MODEL (a configuration's name, a config.json, a GGUF or a recipe)");
  }
  FATHOM_TRY(const Answer answer, Ask(options));
  if (options.json) {
    PrintJson(answer);
  } else {
    PrintText(answer);
    if (options.explain) std::fputs(std::string(kExplanation).c_str(), stdout);
  }
  return {};
}

}  // namespace

void RegisterPlan(CLI::App& app, Action& selected) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = AddCommand(
      app, selected, "plan", "what training a model would cost: FLOPs, device-hours, money, memory",
      "Examples:\n"
      "  fathom plan --training deepseek-v3 --tokens 14.8e12            the paper's 2.664 M H800-hours\n"
      "  fathom plan --training r2 --tokens 14.8e12 --device h800 --price 2 --explain\n"
      "  fathom plan --training recipes/nano.toml --flops 0.23 --mfu 0.5 --price 0.12\n"
      "  fathom plan --training path/to/config.json --tokens 1e12 --device 910b --mfu 0.3 --json\n"
      "  fathom plan --list                                             devices\n",
      options, RunPlan);
  command->add_option("--training", options->training, "a configuration's name, a config.json, a GGUF or a recipe");
  command->add_option("--tokens", options->tokens, "tokens to train on, e.g. 14.8e12 (default: the recipe's)")
      ->check(CLI::Range(1.0, 1e18));
  command->add_option("--sequence", options->sequence_length, "tokens of a sequence (default: the recipe's, or 4096)")
      ->check(CLI::Range(1.0, 1e9));
  command->add_option("--device", options->device, "a device of --list")->capture_default_str();
  command->add_option("--flops", options->device_tflops, "peak of a device, TFLOP/s, instead of --device")
      ->check(CLI::Range(1e-6, 1e9));
  command->add_option("--memory", options->memory_gb, "memory of a device, GB")->check(CLI::Range(1e-3, 1e9));
  command->add_option("--mfu", options->mfu, "share of the BF16 peak that becomes model arithmetic (default: V3's)")
      ->check(CLI::Range(1e-4, 2.0));
  command->add_option("--price", options->price, "of one device for an hour (default: the recipe's, or 2)")
      ->check(CLI::Range(0.0, 1e9));
  command->add_option("--devices", options->devices, "so many devices (default: the least that hold the model)")
      ->check(WholeNumber(int64_t{1}, int64_t{100000000}));
  command->add_option("--state-bytes", options->bytes_per_parameter, "bytes a parameter: weights, gradients, optimiser")
      ->check(CLI::Range(0.1, 64.0))->capture_default_str();
  command->add_flag("--recompute", options->recompute, "recompute every layer in the backward pass");
  command->add_flag("--explain", options->explain, "print the formulas");
  command->add_flag("--json", options->json, "print JSON");
  command->add_flag("--list", options->list, "show devices");
}

}  // namespace fathom
