// What training a model costs: arithmetic, device-hours, money, memory and the least number of devices. Headers and
// configurations only, never weights. docs/training-cost.md explains the formulas and checks them against DeepSeek-V3.
//
// Pure functions but for LoadTrainingTarget; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "format/model_config.h"
#include "train/flops.h"

namespace fathom {

/// DeepSeek-V3's own numbers (arXiv 2412.19437, table 1 and section 4.2; every GPU hour at 2 USD).
constexpr double kV3PretrainingHours = 2664e3;  // H800
constexpr double kV3ExtensionHours = 119e3;     // of the context to 32 K and 128 K tokens
constexpr double kV3AllHours = 2788e3;          // with context extension (119 K) and post-training (5 K)
constexpr double kV3Tokens = 14.8e12;
constexpr double kV3SequenceLength = 4096;
constexpr double kV3PricePerHour = 2.0;

/// What is to be trained, and with what.
struct TrainingTarget {
  ModelConfig config;                // MTP layers included in the arithmetic where it has them
  std::string name;
  std::optional<double> tokens;      // a recipe says
  std::optional<double> sequence_length;
  std::optional<double> price_per_hour;
  std::string currency = "USD";
};

/// target: a name of SynthConfigs(), a config.json or a directory with one, a GGUF, or a recipe (.toml). Errors:
/// kInvalidArgument for an unknown name, those of the readers.
Result<TrainingTarget> LoadTrainingTarget(const std::string& target);

struct TrainingInput {
  double tokens = 0;
  double sequence_length = 4096;
  double device_flops = 0;           // dense BF16 peak of one device, operations a second
  double memory_bytes = 0;           // of one device; 0: unknown
  double mfu = 0;                    // model FLOPs utilisation: share of device_flops that becomes model arithmetic
  double price_per_hour = 0;         // of one device
  double bytes_per_parameter = 14;   // weights, gradients, optimiser; see docs/training-cost.md
  bool recompute = false;            // every layer is computed again in the backward pass
  int64_t devices = 0;               // 0: the least that hold the model
};

struct TrainingPlan {
  ParameterCount parameters;         // without MTP
  int64_t mtp_parameters = 0;
  FlopsPerToken forward;             // a token
  double flops_per_token = 0;        // training
  double total_flops = 0;
  double device_hours = 0;
  double cost = 0;
  double state_bytes = 0;            // weights, gradients, optimiser; once over all devices
  double activation_bytes = 0;       // a device: one sequence through the whole model, whatever the pipeline
  int64_t least_devices = 0;         // 0: memory unknown, or no number is enough (activations alone do not fit)
  int64_t devices = 0;               // 0: unknown
  double days = 0;                   // with that many devices; 0: unknown
};

/// REQUIRES: config passed ValidateConfig; tokens, device_flops, mfu and sequence_length above 0.
TrainingPlan PlanTraining(const ModelConfig& config, const TrainingInput& input);

/// Activations that the backward pass of one sequence needs, bytes in BF16: of all layers with norms, up-projections
/// and SwiGLU's products made again, as V3's trainer does; or with recompute the inputs of all layers and the rest of one.
double ActivationBytes(const ModelConfig& config, double sequence_length, bool recompute);

/// The utilisation that V3's published hours imply, by this file's own count, against the dense BF16 peak of its H800s.
double V3Utilisation();

}  // namespace fathom
