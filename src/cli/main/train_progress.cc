#include "cli/main/train_progress.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <filesystem>

#include "io/env.h"
#include "train/report.h"

namespace fathom {

TrainProgress::TrainProgress(const Recipe& recipe, bool quiet)
    : recipe_(recipe), quiet_(quiet), progress_(recipe.name, {.quiet = quiet}) {}

void TrainProgress::Say(const std::string& line) {
  if (quiet_) return;
  progress_.Finish();
  std::fprintf(stderr, "%s\n", line.c_str());
}

void TrainProgress::Start(const train::RunInfo& info) {
  run_ = info;
  Say(fmt::format("{}: {:.1f} M parameters, {:.1f} M active ({:.1f} %); {:.1f} M tokens in {} steps on {} ({} rank(s), "
                  "{} thread(s), matrix product {:.0f} GFLOP/s)",
                  recipe_.name, info.parameters_total / 1e6, info.parameters_active / 1e6,
                  100.0 * info.parameters_active / info.parameters_total, info.total_tokens / 1e6, info.total_steps,
                  info.device, info.ranks, info.threads, info.peak_flops / 1e9));
  if (info.first_step > 0) Say(fmt::format("going on from {}", info.resumed_from));

  seconds_ = info.first_seconds;
  std::error_code ignored;
  std::filesystem::create_directories(recipe_.output, ignored);
  auto opened = MetricsLog::Open(JoinPath(recipe_.output, "metrics.jsonl"), info.first_step);
  if (!opened) return Keep(std::unexpected(opened.error()));
  metrics_ = std::move(*opened);
  const ModelConfig& m = recipe_.model;
  ReportInfo report{.name = recipe_.name,
                    .device = fmt::format("{}, {} rank(s), {} thread(s)", info.device, info.ranks, info.threads),
                    .parameters_total = info.parameters_total, .parameters_active = info.parameters_active,
                    .total_tokens = info.total_tokens, .flops_per_token = info.flops_per_token,
                    .peak_flops = info.peak_flops, .price_per_hour = recipe_.price_per_hour,
                    .currency = recipe_.currency};
  report.config = {
      {"layers", fmt::format("{} ({} dense), {} MTP", m.num_hidden_layers, m.moe.first_k_dense_replace,
                             m.num_nextn_predict_layers)},
      {"hidden size", fmt::format("{}", m.hidden_size)},
      {"attention", fmt::format("{} heads, q_lora {}, kv_lora {}", m.num_attention_heads, m.mla.q_lora_rank,
                                m.mla.kv_lora_rank)},
      {"experts", fmt::format("{} choose {}, {} shared, width {}", m.moe.n_routed_experts, m.moe.num_experts_per_tok,
                              m.moe.n_shared_experts, m.moe.moe_intermediate_size)},
      {"vocabulary", fmt::format("{}", m.vocab_size)},
      {"batch", fmt::format("{} tokens, documents up to {}", recipe_.batch_tokens, recipe_.sequence_length)},
      {"optimiser", fmt::format("{}, peak rate {} (AdamW {})", recipe_.optimizer.muon ? "Muon" : "AdamW",
                                recipe_.optimizer.learning_rate, recipe_.optimizer.adam_learning_rate)},
      {"matrix products", recipe_.bf16 ? "bf16" : "f32"}};
  Keep(metrics_->Event("start", info.first_step, {{"run", ToJson(report)}}));
}

void TrainProgress::Keep(Status status) {
  if (status) return;
  metrics_.reset();
  Say(status.error().message + "\n  Training goes on without metrics.");
}

void TrainProgress::WriteReportNow() {
  if (!metrics_) return;
  const Status status =
      WriteReport(JoinPath(recipe_.output, "metrics.jsonl"), JoinPath(recipe_.output, "report.html"));
  if (!status) Say(status.error().message);
}

void TrainProgress::Step(const train::StepInfo& info) {
  seconds_ += info.seconds;
  const double rate = recipe_.batch_tokens / info.seconds;
  tokens_per_second_ = tokens_per_second_ == 0 ? rate : 0.95 * tokens_per_second_ + 0.05 * rate;
  progress_.Update(info.tokens, run_.total_tokens,
                   fmt::format("{} loss {:.3f} mtp {:.3f} norm {:.2f} {:.0f} tok/s {:.0f} GFLOP/s",
                               recipe_.stages[info.stage].name, info.loss, info.mtp_loss, info.gradient_norm,
                               tokens_per_second_, info.flops / info.seconds / 1e9));
  if (!metrics_) return;
  const double hours = seconds_ / 3600;
  StepMetrics line{.step = info.step, .tokens = info.tokens, .stage = recipe_.stages[info.stage].name,
                   .loss = info.loss, .mtp_loss = info.mtp_loss, .gradient_norm = info.gradient_norm,
                   .learning_rate = info.rate_share * (recipe_.optimizer.muon ? recipe_.optimizer.learning_rate
                                                                              : recipe_.optimizer.adam_learning_rate),
                   .tokens_per_second = rate, .flops_per_second = info.flops / info.seconds,
                   .peak_share = run_.peak_flops > 0 ? info.flops / info.seconds / run_.peak_flops
                                                     : StepMetrics::kNone,
                   .seconds = seconds_, .cost = hours * recipe_.price_per_hour * run_.ranks};
  if (recipe_.model.num_nextn_predict_layers == 0) line.mtp_loss = StepMetrics::kNone;
  if (info.step % 10 == 0) line.expert_load = info.expert_load;
  Keep(metrics_->Step(line));
}

void TrainProgress::Validation(const train::ValidationInfo& info) {
  Say(fmt::format("step {}: validation loss {:.4f}{}", info.step, info.loss,
                  info.bits_per_byte > 0 ? fmt::format(", {:.3f} bits per byte", info.bits_per_byte) : ""));
  if (!metrics_) return;
  nlohmann::json fields = {{"loss", info.loss}, {"tokens", info.tokens}};
  if (info.bits_per_byte > 0) fields["bits_per_byte"] = info.bits_per_byte;
  Keep(metrics_->Event("validation", info.step, std::move(fields)));
}

void TrainProgress::Checkpoint(const std::string& path, int64_t step) {
  Say(fmt::format("step {}: saved {}", step, path));
  if (metrics_) Keep(metrics_->Event("checkpoint", step, {{"path", path}}));
  WriteReportNow();
}

void TrainProgress::Message(const std::string& text) { Say(text); }

void TrainProgress::Finish(const train::RunResult& result) {
  if (metrics_) Keep(metrics_->Event("end", result.step, {{"finished", result.finished}}));
  WriteReportNow();
  if (!quiet_ && metrics_) Say(fmt::format("report: {}", JoinPath(recipe_.output, "report.html")));
  if (result.finished) Say(fmt::format("done: {} steps, the model is in {}", result.step, result.exported));
}

}  // namespace fathom
