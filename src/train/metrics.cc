#include "train/metrics.h"

#include <cmath>
#include <cstdlib>
#include <optional>
#include <span>
#include <string_view>

namespace fathom {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxBytes = int64_t{4} << 30;
constexpr size_t kMaxLayers = 4096, kMaxExperts = 65536;

// Few digits: a run has many lines, and nobody reads the eighth.
double Rounded(double value, int digits = 7) {
  return std::strtod(fmt::format("{:.{}g}", value, digits).c_str(), nullptr);
}

void Put(Json& line, const char* key, double value) {
  if (std::isfinite(value)) line[key] = Rounded(value);
  // JSON has no word for infinity; a loss that is one must not look like one that is absent.
  if (std::isinf(value)) line[key] = value > 0 ? 1e308 : -1e308;
}

std::optional<int64_t> Int(const Json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end() || !found->is_number_integer()) return std::nullopt;
  if (found->is_number_unsigned() && found->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return found->get<int64_t>();
}

double Number(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found != line.end() && found->is_number() ? found->get<double>() : StepMetrics::kNone;
}

std::string Text(const Json& line, const char* key, std::string fallback = "") {
  const auto found = line.find(key);
  return found != line.end() && found->is_string() ? found->get<std::string>() : std::move(fallback);
}

std::vector<std::vector<float>> Load(const Json& line) {
  std::vector<std::vector<float>> out;
  const auto found = line.find("expert_load");
  if (found == line.end() || !found->is_array() || found->size() > kMaxLayers) return out;
  for (const Json& layer : *found) {
    if (!layer.is_array() || layer.size() > kMaxExperts) return {};
    std::vector<float>& row = out.emplace_back();
    for (const Json& share : layer) {
      if (!share.is_number()) return {};
      row.push_back(share.get<float>());
    }
  }
  return out;
}

template <typename Fn>
void ForEachLine(std::string_view text, Fn&& fn) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    fn(text.substr(0, end), /*whole=*/end != std::string_view::npos);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
}

Json ParseLine(std::string_view line) {
  // Lines are flat but for expert_load; anything deeper is not ours and costs little to refuse.
  return Json::parse(line, nullptr, /*allow_exceptions=*/false);
}

std::string DumpLine(const Json& line) { return line.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

nlohmann::json ToJson(const ReportInfo& info) {
  Json config = Json::array();
  for (const auto& [key, value] : info.config) config.push_back({key, value});
  return {{"name", info.name},
          {"device", info.device},
          {"parameters_total", info.parameters_total},
          {"parameters_active", info.parameters_active},
          {"total_tokens", info.total_tokens},
          {"flops_per_token", info.flops_per_token},
          {"peak_flops", info.peak_flops},
          {"price_per_hour", info.price_per_hour},
          {"currency", info.currency},
          {"config", std::move(config)}};
}

ReportInfo ReportInfoFromJson(const nlohmann::json& json) {
  ReportInfo info;
  if (!json.is_object()) return info;
  const auto number = [&](const char* key) {
    const double value = Number(json, key);
    return std::isfinite(value) ? value : 0.0;
  };
  info.name = Text(json, "name");
  info.device = Text(json, "device");
  info.parameters_total = Int(json, "parameters_total").value_or(0);
  info.parameters_active = Int(json, "parameters_active").value_or(0);
  info.total_tokens = Int(json, "total_tokens").value_or(0);
  info.flops_per_token = number("flops_per_token");
  info.peak_flops = number("peak_flops");
  info.price_per_hour = number("price_per_hour");
  info.currency = Text(json, "currency", info.currency);
  if (const auto config = json.find("config"); config != json.end() && config->is_array()) {
    for (const Json& row : *config) {
      if (row.is_array() && row.size() == 2 && row[0].is_string() && row[1].is_string())
        info.config.emplace_back(row[0].get<std::string>(), row[1].get<std::string>());
    }
  }
  return info;
}

Result<std::unique_ptr<MetricsLog>> MetricsLog::Open(const std::string& path, int64_t after_step, Env& env) {
  std::string kept;
  if (after_step > 0 && env.Exists(path)) {
    FATHOM_TRY(const std::string text, ReadWholeFile(env, path, kMaxBytes));
    kept.reserve(text.size());
    ForEachLine(text, [&](std::string_view line, bool whole) {
      if (!whole) return;
      const Json json = ParseLine(line);
      if (!json.is_object() || Int(json, "step").value_or(INT64_MAX) > after_step) return;
      kept.append(line).push_back('\n');
    });
  }
  // Written aside and renamed, so that a crash here loses nothing; the file stays open under its new name.
  const std::string temporary = path + ".part";
  if (env.Exists(temporary)) FATHOM_CHECK_OK(env.Remove(temporary));
  FATHOM_TRY(auto file, env.Create(temporary));
  FATHOM_CHECK_OK(file->Append(std::as_bytes(std::span(kept))));
  FATHOM_CHECK_OK(file->Sync());
  FATHOM_CHECK_OK(env.Rename(temporary, path));
  FATHOM_CHECK_OK(env.SyncDirectory(DirectoryOf(path)));
  return std::unique_ptr<MetricsLog>(new MetricsLog(path, std::move(file)));
}

Status MetricsLog::Append(const nlohmann::json& line) {
  const std::string text = DumpLine(line) + "\n";
  return file_->Append(std::as_bytes(std::span(text)));
}

Status MetricsLog::Step(const StepMetrics& metrics) {
  Json line = {{"step", metrics.step}, {"tokens", metrics.tokens}};
  if (!metrics.stage.empty()) line["stage"] = metrics.stage;
  Put(line, "loss", metrics.loss);
  Put(line, "mtp_loss", metrics.mtp_loss);
  Put(line, "balance_loss", metrics.balance_loss);
  Put(line, "gradient_norm", metrics.gradient_norm);
  Put(line, "learning_rate", metrics.learning_rate);
  Put(line, "tokens_per_second", metrics.tokens_per_second);
  Put(line, "flops_per_second", metrics.flops_per_second);
  Put(line, "peak_share", metrics.peak_share);
  Put(line, "seconds", metrics.seconds);
  Put(line, "cost", metrics.cost);
  if (!metrics.expert_load.empty()) {
    Json layers = Json::array();
    for (const auto& layer : metrics.expert_load) {
      Json row = Json::array();
      for (const float share : layer) row.push_back(std::isfinite(share) ? Rounded(share, 4) : 0.0);
      layers.push_back(std::move(row));
    }
    line["expert_load"] = std::move(layers);
  }
  return Append(line);
}

Status MetricsLog::Event(const std::string& event, int64_t step, nlohmann::json fields) {
  if (!fields.is_object()) fields = Json::object();
  fields["event"] = event;
  fields["step"] = step;
  FATHOM_CHECK_OK(Append(fields));
  return file_->Sync();
}

Result<RunMetrics> ReadMetrics(const std::string& path, Env& env) {
  FATHOM_TRY(const std::string text, ReadWholeFile(env, path, kMaxBytes));
  RunMetrics out;
  ForEachLine(text, [&](std::string_view line, bool) {
    if (line.empty()) return;
    Json json = ParseLine(line);
    const auto step = json.is_object() ? Int(json, "step") : std::nullopt;
    if (!step) {
      ++out.skipped_lines;
      return;
    }
    if (std::string event = Text(json, "event"); !event.empty()) {
      out.events.push_back({std::move(event), *step, std::move(json)});
      return;
    }
    const auto tokens = Int(json, "tokens");
    if (!tokens) {
      ++out.skipped_lines;
      return;
    }
    StepMetrics m;
    m.step = *step;
    m.tokens = *tokens;
    m.stage = Text(json, "stage");
    m.loss = Number(json, "loss");
    m.mtp_loss = Number(json, "mtp_loss");
    m.balance_loss = Number(json, "balance_loss");
    m.gradient_norm = Number(json, "gradient_norm");
    m.learning_rate = Number(json, "learning_rate");
    m.tokens_per_second = Number(json, "tokens_per_second");
    m.flops_per_second = Number(json, "flops_per_second");
    m.peak_share = Number(json, "peak_share");
    m.seconds = Number(json, "seconds");
    m.cost = Number(json, "cost");
    m.expert_load = Load(json);
    out.steps.push_back(std::move(m));
  });
  return out;
}

}  // namespace fathom
