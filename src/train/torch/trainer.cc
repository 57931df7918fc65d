#include "train/torch/trainer.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "engine/tokenizer_loader.h"
#include "io/env.h"
#include "train/data_stream.h"
#include "train/flops.h"
#include "train/output_folder.h"
#include "train/torch/checkpoint.h"
#include "train/torch/device.h"
#include "train/torch/module.h"
#include "train/torch/optimizer.h"
#include "train/torch/ranks.h"

namespace fathom::train {
namespace {

using nlohmann::json;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What libtorch says, without its stack of frames.
std::string FirstLine(const char* text) {
  const std::string all(text);
  return all.substr(0, all.find('\n'));
}

class Run {
 public:
  explicit Run(const TrainOptions& options) : options_(options), recipe_(options.recipe) {}

  Result<RunResult> Execute() {
    FATHOM_CHECK_OK(Prepare());
    FATHOM_CHECK_OK(Resume());
    Announce();
    last_saved_ = Now();
    if (step_ == 0 && !recipe_.validation.empty()) FATHOM_CHECK_OK(Validate());
    while (step_ < total_steps_) {
      if (Stopping()) return Interrupted();
      FATHOM_TRY(const bool whole, Step());
      if (!whole) return Interrupted();
      if (!recipe_.validation.empty() && (step_ % recipe_.validate_every_steps == 0 || step_ == total_steps_)) {
        FATHOM_CHECK_OK(Validate());
      }
      if (step_ < total_steps_ && AnyRank(Now() - last_saved_ > recipe_.checkpoint_minutes * 60)) {
        FATHOM_CHECK_OK(SaveIfPossible());
      }
    }
    FATHOM_CHECK_OK(Save());
    const std::string folder = JoinPath(recipe_.output, "model");
    FATHOM_CHECK_OK(ExportModel(*model_, folder, DType::kF32, files_));
    return RunResult{true, step_, tokens_, checkpoint_.path, folder};
  }

 private:
  Status Prepare() {
    const ModelConfig& config = recipe_.model;
    if (!config.is_mla()) return Fail(ErrorCode::kInvalidArgument, "{}: only MLA models are trained", recipe_.path);
    at::set_num_threads(options_.threads > 0 ? options_.threads
                                             : static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
    FATHOM_TRY(const LaunchPlace place, FindPlace());
    FATHOM_TRY(device_, FindDevice(options_.device, place));
    // Before anything that takes long, the wait for the other ranks included.
    if (place.rank == 0) FATHOM_CHECK_OK(TryOutputFolder(Env::Default(), recipe_.output));
    FATHOM_TRY(ranks_, JoinRanks(place, device_));
    const int size = ranks_->size();
    if (config.moe.n_routed_experts % size != 0) {
      return Fail(ErrorCode::kInvalidArgument, "{}: {} experts do not divide by {} ranks", recipe_.path,
                  config.moe.n_routed_experts, size);
    }
    if (recipe_.batch_tokens % (recipe_.micro_batch_tokens * size) != 0) {
      return Fail(ErrorCode::kInvalidArgument,
                  "{}: batch.tokens ({}) is not a multiple of batch.micro_tokens ({}) times {} ranks", recipe_.path,
                  recipe_.batch_tokens, recipe_.micro_batch_tokens, size);
    }
    micro_batches_ = recipe_.batch_tokens / (recipe_.micro_batch_tokens * size);
    total_steps_ = (recipe_.total_tokens() + recipe_.batch_tokens - 1) / recipe_.batch_tokens;

    FATHOM_TRY(tokenizer_, LoadTokenizer(recipe_.tokenizer));
    if (tokenizer_->vocab_size() > config.vocab_size) {
      return Fail(ErrorCode::kInvalidArgument, "{}: vocab_size is {}, and the tokenizer {} has {} tokens", recipe_.path,
                  config.vocab_size, recipe_.tokenizer, tokenizer_->vocab_size());
    }
    files_ = {recipe_.tokenizer, tokenizer_->bos_id(), tokenizer_->eos_id(), -1};
    const auto compute = recipe_.bf16 ? at::kBFloat16 : at::kFloat;
    model_ = std::make_unique<TrainModel>(config, recipe_.loss, recipe_.seed, device_, compute,
                                          recipe_.checkpoint_activations, *ranks_);
    optimizer_ = std::make_unique<Optimizer>(model_->parameters(), recipe_.optimizer, compute);
    peak_flops_ = MeasurePeakFlops(device_.str(), recipe_.bf16) * size;
    flops_per_token_ = CountFlops(config, static_cast<double>(recipe_.sequence_length))
                           .training(recipe_.checkpoint_activations);
    // Every stage's files are looked for now: a stage that cannot start hours from now should not.
    for (size_t i = 0; i < recipe_.stages.size(); ++i) {
      if (const auto opened = OpenStage(i); !opened) return std::unexpected(opened.error());
    }
    return {};
  }

  Result<std::unique_ptr<DataStream>> OpenStage(size_t index) const {
    return DataStream::Open(recipe_.stages[index].data, *tokenizer_,
                            {.batch_tokens = recipe_.micro_batch_tokens, .sequence_length = recipe_.sequence_length,
                             .seed = recipe_.seed + index, .rank = ranks_->rank(), .ranks = ranks_->size()});
  }

  std::string Folder() const { return JoinPath(recipe_.output, "checkpoints"); }

  Status Resume() {
    if (options_.restart) FATHOM_CHECK_OK(PutAway());
    std::vector<std::string> passed_over;
    const auto found = options_.restart ? std::nullopt : NewestCheckpoint(Folder(), passed_over);
    for (const std::string& message : passed_over) Say("passed over a damaged checkpoint: " + message);
    if (!found) {
      if (!options_.init_from.empty()) FATHOM_CHECK_OK(LoadWeights(options_.init_from, *model_));
      FATHOM_TRY(stream_, OpenStage(0));
      return {};
    }
    FATHOM_TRY(const json state, LoadCheckpoint(*found, *model_, *optimizer_));
    const auto count = [&](const char* key) { return state.contains(key) && state[key].is_number_unsigned(); };
    if (!state.is_object() || !state.contains("data") || !count("stage") || !count("step") || !count("tokens") ||
        !count("batch_tokens") || !state.contains("seconds") || !state["seconds"].is_number()) {
      return Fail(ErrorCode::kCorrupt, "{}: the trainer's state is incomplete", found->path);
    }
    step_ = state["step"].get<int64_t>();
    tokens_ = state["tokens"].get<int64_t>();
    stage_ = state["stage"].get<size_t>();
    elapsed_ = state["seconds"].get<double>();
    if (state["batch_tokens"].get<int64_t>() != recipe_.batch_tokens || stage_ >= recipe_.stages.size()) {
      return Fail(ErrorCode::kInvalidArgument,
                  "{}: was made by a recipe with other batches or stages\nUse the old recipe, another [output], or "
                  "--restart.", found->path);
    }
    FATHOM_TRY(stream_, OpenStage(stage_));
    if (const Status status = stream_->Restore(state["data"]); !status) return Prefix(status.error(), found->path);
    checkpoint_ = *found;
    first_step_ = step_;
    return {};
  }

  /// A run that begins anew must not meet the old one's checkpoints: they have higher steps, so they would be taken for
  /// the newest. They are kept, under another name.
  Status PutAway() {
    Status status;
    if (ranks_->rank() == 0 && Env::Default().Exists(Folder())) {
      std::string away;
      for (int i = 1; away.empty() || Env::Default().Exists(away); ++i) away = fmt::format("{}-before-{}", Folder(), i);
      status = Env::Default().Rename(Folder(), away);
      if (status) Say("the earlier checkpoints are in " + away);
    }
    if (AnyRank(!status) && status) return Fail(ErrorCode::kIo, "rank 0 could not put the earlier checkpoints away");
    return status;
  }

  void Announce() {
    if (!options_.on_start || ranks_->rank() != 0) return;
    const ParameterCount count = CountParameters(recipe_.model);
    options_.on_start({.parameters_total = count.total, .parameters_active = count.active,
                       .total_tokens = recipe_.total_tokens(), .total_steps = total_steps_, .first_step = first_step_,
                       .first_tokens = tokens_, .first_seconds = elapsed_,
                       .resumed_from = first_step_ > 0 ? checkpoint_.path : "", .device = device_.str(),
                       .ranks = ranks_->size(), .threads = at::get_num_threads(), .flops_per_token = flops_per_token_,
                       .peak_flops = peak_flops_});
  }

  /// All ranks must stop together, so they ask each other.
  bool Stopping() {
    const bool stop = (options_.interrupted && options_.interrupted()) ||
                      (options_.stop_after_steps > 0 && step_ - first_step_ >= options_.stop_after_steps);
    return AnyRank(stop);
  }

  /// What one rank wants, all do: they must make the same collective calls, and each has a clock of its own.
  bool AnyRank(bool mine) {
    if (ranks_->alone()) return mine;
    at::Tensor any = at::full({1}, mine ? 1.0f : 0.0f).to(device_);
    ranks_->Sum(any);
    return any.item<float>() > 0;
  }

  Result<RunResult> Interrupted() {
    FATHOM_CHECK_OK(Save());
    return RunResult{false, step_, tokens_, checkpoint_.path, ""};
  }

  Status EnterStage() {
    int64_t end = 0;
    size_t stage = 0;
    for (; stage < recipe_.stages.size(); ++stage) {
      end += recipe_.stages[stage].tokens;
      if (tokens_ < end) break;
    }
    stage = std::min(stage, recipe_.stages.size() - 1);
    if (stage == stage_) return {};
    stage_ = stage;
    FATHOM_TRY(stream_, OpenStage(stage_));
    Say(fmt::format("stage {}: {}", stage_ + 1, recipe_.stages[stage_].name));
    return {};
  }

  /// One optimiser step; false when it was given up between micro-batches (nothing has changed then but the stream,
  /// which is put back).
  Result<bool> Step() {
    FATHOM_CHECK_OK(EnterStage());
    const double begin = Now();
    // Only a step of several micro-batches can be given up half way; a state is tens of kilobytes.
    const json before = micro_batches_ > 1 && options_.interrupted ? stream_->State() : json();
    optimizer_->ZeroGradients();
    model_->ClearLoads();
    Losses sum;
    for (int64_t i = 0; i < micro_batches_; ++i) {
      if (i > 0 && ranks_->alone() && options_.interrupted && options_.interrupted()) {
        FATHOM_CHECK_OK(stream_->Restore(before));
        return false;
      }
      FATHOM_TRY(const Batch batch, stream_->Next());
      Losses losses = model_->Loss(model_->ToDevice(batch));
      losses.total.backward();
      sum.next += losses.next, sum.next_count += losses.next_count;
      sum.mtp += losses.mtp, sum.mtp_count += losses.mtp_count;
    }
    SumOverRanks(sum);
    const double norm = FinishGradients(sum);
    if (!std::isfinite(sum.next) || !std::isfinite(norm)) {
      return Fail(ErrorCode::kInternal,
                  "the loss is not a number at step {} (loss {}, gradient norm {})\n{}", step_ + 1,
                  sum.next / std::max<int64_t>(1, sum.next_count), norm, AfterDivergence());
    }
    const double share = ScheduleShare(recipe_.schedule, tokens_, recipe_.total_tokens());
    optimizer_->Step(share);
    model_->UpdateBiases(recipe_.loss.bias_update_speed);
    ++step_;
    tokens_ += recipe_.batch_tokens;
    Report(sum, norm, share, Now() - begin);
    return true;
  }

  void SumOverRanks(Losses& sum) {
    if (ranks_->alone()) return;
    at::Tensor all = at::tensor({sum.next, static_cast<double>(sum.next_count), sum.mtp,
                                 static_cast<double>(sum.mtp_count)}, at::kDouble).to(device_);
    ranks_->Sum(all);
    const at::Tensor host = all.to(at::kCPU);
    sum.next = host[0].item<double>(), sum.next_count = static_cast<int64_t>(host[1].item<double>());
    sum.mtp = host[2].item<double>(), sum.mtp_count = static_cast<int64_t>(host[3].item<double>());
    ranks_->Sum(model_->loads());
  }

  /// Sums gradients over ranks, divides them by the number of counted tokens, clips. Gives the norm before clipping.
  double FinishGradients(const Losses& sum) {
    at::NoGradGuard no_grad;
    const double scale = 1.0 / static_cast<double>(std::max<int64_t>(1, sum.next_count));
    for (Parameter& parameter : model_->parameters()) {
      at::Tensor grad = parameter.value.grad();
      if (parameter.kind == ParameterKind::kBias) continue;
      if (!grad.defined()) {
        // Every rank must take part in every sum, also where none of its tokens met a parameter.
        if (ranks_->alone()) continue;
        parameter.value.mutable_grad() = grad = at::zeros_like(parameter.value);
      }
      if (!parameter.sharded) ranks_->Sum(grad);
      grad.mul_(scale);
    }
    const double norm = GradientNorm(model_->parameters(), *ranks_);
    const double clip = recipe_.optimizer.clip_norm;
    if (clip > 0 && norm > clip) {
      for (Parameter& parameter : model_->parameters()) {
        if (at::Tensor grad = parameter.value.grad(); grad.defined()) grad.mul_(clip / norm);
      }
    }
    return norm;
  }

  void Report(const Losses& sum, double norm, double share, double seconds) {
    elapsed_ += seconds;
    if (!options_.on_step || ranks_->rank() != 0) return;
    StepInfo info{.step = step_, .tokens = tokens_,
                  .loss = sum.next / static_cast<double>(std::max<int64_t>(1, sum.next_count)),
                  .mtp_loss = sum.mtp / static_cast<double>(std::max<int64_t>(1, sum.mtp_count)),
                  .gradient_norm = norm, .rate_share = share, .seconds = seconds,
                  .flops = flops_per_token_ * static_cast<double>(recipe_.batch_tokens),
                  .stage = static_cast<int>(stage_)};
    const at::Tensor loads = model_->loads().to(at::kCPU);
    for (int layer = 0; layer < model_->moe_layers(); ++layer) {
      const at::Tensor shares = (loads[layer] / loads[layer].sum().clamp_min(1)).contiguous();
      info.expert_load.emplace_back(shares.data_ptr<float>(), shares.data_ptr<float>() + shares.numel());
    }
    options_.on_step(info);
  }

  /// The same batches every time, kept: held-out text stands at the end of its files, and compressed ones must be
  /// unpacked to get there.
  Status ReadValidation() {
    FATHOM_TRY(const auto stream,
               DataStream::Open(recipe_.validation, *tokenizer_,
                                {.batch_tokens = recipe_.micro_batch_tokens,
                                 .sequence_length = recipe_.sequence_length, .seed = recipe_.seed,
                                 .rank = ranks_->rank(), .ranks = ranks_->size()}));
    const int64_t share = recipe_.micro_batch_tokens * ranks_->size();
    for (int64_t i = 0; i < std::max<int64_t>(1, recipe_.validation_tokens / share); ++i) {
      FATHOM_TRY(Batch batch, stream->Next());
      validation_.push_back(std::move(batch));
    }
    return {};
  }

  Status Validate() {
    at::NoGradGuard no_grad;
    if (validation_.empty()) FATHOM_CHECK_OK(ReadValidation());
    Losses sum;
    double bytes = 0;
    for (const Batch& batch : validation_) {
      const Losses losses = model_->Loss(model_->ToDevice(batch));
      sum.next += losses.next, sum.next_count += losses.next_count;
      bytes += static_cast<double>(batch.bytes);
    }
    sum.mtp = bytes;  // rides along
    SumOverRanks(sum);
    if (options_.on_validation && ranks_->rank() == 0) {
      options_.on_validation({.step = step_, .tokens = tokens_,
                              .loss = sum.next / static_cast<double>(std::max<int64_t>(1, sum.next_count)),
                              .bits_per_byte = sum.mtp > 0 ? sum.next / std::log(2.0) / sum.mtp : 0});
    }
    return {};
  }

  json State() const {
    return {{"step", step_}, {"tokens", tokens_}, {"stage", stage_}, {"seconds", elapsed_},
            {"batch_tokens", recipe_.batch_tokens}, {"data", stream_->State()}};
  }

  std::string AfterDivergence() const {
    return fmt::format("The last good checkpoint is {}. Try a lower learning rate, a longer warm-up or smaller "
                       "clip_norm, then run the same command again.",
                       checkpoint_.path.empty() ? "none yet" : checkpoint_.path);
  }

  Status Save() {
    last_saved_ = Now();
    if (checkpoint_.step == step_ && !checkpoint_.path.empty()) return {};
    auto saved = SaveCheckpoint(Folder(), step_, *model_, *optimizer_, State(), files_, recipe_.keep_checkpoints);
    if (!saved && saved.error().code == ErrorCode::kInternal) {
      return Fail(ErrorCode::kInternal, "{}\n{}", saved.error().message, AfterDivergence());
    }
    FATHOM_TRY(checkpoint_, std::move(saved));
    if (options_.on_checkpoint && ranks_->rank() == 0) options_.on_checkpoint(checkpoint_.path, step_);
    return {};
  }

  /// A full disk in the middle of a long run is told and tried again later; the run itself is worth more.
  Status SaveIfPossible() {
    const Status status = Save();
    // Diverged: there is nothing to go on with.
    if (status || status.error().code == ErrorCode::kInternal) return status;
    Say(status.error().message + "\nTraining goes on; free some space.");
    return {};
  }

  void Say(const std::string& message) {
    if (options_.on_message && (!ranks_ || ranks_->rank() == 0)) options_.on_message(message);
  }

  const TrainOptions& options_;
  const Recipe& recipe_;
  at::Device device_{at::kCPU};
  std::unique_ptr<Ranks> ranks_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<TrainModel> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<DataStream> stream_;
  std::vector<Batch> validation_;
  ExportFiles files_;
  CheckpointInfo checkpoint_;
  int64_t micro_batches_ = 1, total_steps_ = 0, first_step_ = 0;
  int64_t step_ = 0, tokens_ = 0;
  size_t stage_ = 0;
  double elapsed_ = 0, last_saved_ = 0, peak_flops_ = 0, flops_per_token_ = 0;
};

}  // namespace

Result<RunResult> Train(const TrainOptions& options) {
  try {
    return Run(options).Execute();
  } catch (const c10::Error& error) {
    return Fail(ErrorCode::kInternal, "libtorch: {}", FirstLine(error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return Fail(ErrorCode::kInternal, "{}", FirstLine(error.what()));
  }
}

double MeasurePeakFlops(const std::string& device, bool bf16) {
  at::NoGradGuard no_grad;
  constexpr int64_t kSize = 1024;
  const at::Device where(device);
  const auto options = at::TensorOptions(where).dtype(bf16 ? at::kBFloat16 : at::kFloat);
  const Tensor a = at::ones({kSize, kSize}, options), b = at::ones({kSize, kSize}, options);
  double best = 0;
  for (int round = 0; round < 8; ++round) {
    const double begin = Now();
    Tensor c = at::mm(a, b);
    c[0][0].item<float>();  // waits for the device
    best = std::max(best, 2.0 * kSize * kSize * kSize / (Now() - begin));
  }
  return best;
}

}  // namespace fathom::train
