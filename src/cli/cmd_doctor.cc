// fathom doctor: is this machine ready, and what is it good for?
#include <sys/statvfs.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/thread_pool.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "cli/models.h"
#include "cli/option_checks.h"
#include "cli/terminal.h"
#include "kernels/ceilings.h"
#include "kernels/matmul.h"

namespace fathom {
namespace {

struct DoctorOptions {
  bool json = false;
  int threads = 0;
};

void Line(const char* verdict, const std::string& name, const std::string& value) {
  std::printf("%-5s %-14s %s\n", verdict, name.c_str(), value.c_str());
}

Status RunDoctor(const DoctorOptions& options) {
  const Machine machine = ExamineMachine();
  FATHOM_TRY(const auto all, ThreadPool::Create(options.threads));
  ThreadPool& pool = *all;
  const int64_t probe_bytes =
      std::min<int64_t>(int64_t{1} << 30, std::max<int64_t>(machine.memory_available / 4, int64_t{64} << 20));
  FATHOM_TRY(const auto alone, ThreadPool::Create(1));
  const auto measured = MeasureReadBandwidth(pool, probe_bytes);
  const double bandwidth = measured.value_or(0.0);
  const double one_thread = MeasureReadBandwidth(*alone, probe_bytes).value_or(0.0);
  const double int8_peak = MeasureInt8Peak(pool), f32_peak = MeasureF32Peak(pool);

  const auto folder = ModelsFolder();
  if (options.json) {
    nlohmann::ordered_json report;
    report["version"] = FATHOM_VERSION;
    report["processor"] = machine.processor;
    report["cores"] = machine.cores;
    report["isa"] = MatmulIsa();
    report["features"] = machine.features;
    report["memory_bytes"] = machine.memory_total;
    report["memory_available_bytes"] = machine.memory_available;
    report["huge_pages"] = machine.huge_pages;
    report["bandwidth_gb_per_second"] = bandwidth / 1e9;
    report["bandwidth_one_thread_gb_per_second"] = one_thread / 1e9;
    report["int8_gop_per_second"] = int8_peak / 1e9;
    report["f32_gop_per_second"] = f32_peak / 1e9;
    report["models_folder"] = folder ? folder->string() : std::string();
    report["disk_free_bytes"] = machine.disk_free;
    report["models"] = PulledModels();
    std::printf("%s\n", report.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
    return {};
  }

  const std::string isa = MatmulIsa();
  Line("ok", "fathom", FATHOM_VERSION);
  Line("ok", "processor", fmt::format("{}, {} cores for this process", machine.processor, machine.cores));
  Line(isa == "generic" ? "slow" : "ok", "kernels",
       isa + (isa == "generic" ? ": plain C++, nothing faster fits this processor" : ""));
  Line("ok", "features", machine.features.empty() ? "none of those fathom asks for" : machine.features);
  Line(machine.memory_available < (int64_t{1} << 30) ? "low" : "ok", "memory",
       fmt::format("{} free of {}{}", HumanBytes(machine.memory_available), HumanBytes(machine.memory_total),
                   machine.memory_limit > 0 ? fmt::format(", limited to {} (cgroup)", HumanBytes(machine.memory_limit))
                                            : std::string()));
  Line(machine.huge_pages == "never" ? "slow" : "ok", "huge pages",
       machine.huge_pages + (machine.huge_pages == "never"
                                 ? ": 'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled' helps"
                                 : ""));
  if (measured) {
    Line("ok", "bandwidth", fmt::format("{:.1f} GB/s with {} threads, {:.1f} with one", bandwidth / 1e9, pool.size(),
                                        one_thread / 1e9));
  } else {
    Line("low", "bandwidth", "not measured: " + measured.error().message);
  }
  if (bandwidth > 0) {
    // Decode is bound by reading the weights once a token.
    Line("", "", fmt::format("at most {:.1f} tokens/s for a model that reads 1 GB a token", bandwidth / 1e9));
  }
  Line("ok", "arithmetic",
       fmt::format("{:.0f} Gop/s int8, {:.0f} f32, with {} threads", int8_peak / 1e9, f32_peak / 1e9, pool.size()));
  if (folder) {
    Line(machine.disk_free < (int64_t{1} << 30) ? "low" : "ok", "disk",
         fmt::format("{} free at {}", HumanBytes(machine.disk_free), folder->string()));
  } else {
    Line("bad", "disk", folder.error().message);
  }
  const auto models = PulledModels();
  std::string names;
  for (const std::string& name : models) names += (names.empty() ? "" : ", ") + name;
  Line(models.empty() ? "none" : "ok", "models", models.empty() ? "none yet: fathom pull smollm2-135m" : names);
  return {};
}

}  // namespace

void RegisterDoctor(CLI::App& app, Action& selected) {
  auto options = std::make_shared<DoctorOptions>();
  CLI::App* command =
      AddCommand(app, selected, "doctor", "check this machine: processor, memory, bandwidth, disk, models", "", options,
                 RunDoctor);
  command->add_option("-t,--threads", options->threads, "threads for the bandwidth; default: one per core")
      ->check(WholeNumber(1, 1024));
  command->add_flag("--json", options->json, "print one JSON object");
}

}  // namespace fathom
