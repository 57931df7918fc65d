#include "experts/io_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace fathom {
namespace {

constexpr std::array<std::string_view, 3> kNames = {"auto", "direct", "buffered"};

std::string Rate(double rate) { return fmt::format("{:.2f} GB/s", rate / 1e9); }

std::string Reason(const IoChoice& choice) {
  const bool wanted = choice.asked == ExpertIo::kBuffered || choice.why == IoChoice::Why::kMeasured;
  if (!choice.direct && !wanted) return "the file system cannot read past it";
  switch (choice.why) {
    case IoChoice::Why::kAsked: return fmt::format("--io {}", ExpertIoName(choice.asked));
    case IoChoice::Why::kPromise: return "--memory counts it";
    case IoChoice::Why::kAllFit: return "there are slots for all of them";
    case IoChoice::Why::kNotMeasured: return choice.problem;
    case IoChoice::Why::kNotDirect:
    case IoChoice::Why::kMeasured: break;
  }
  const IoMeasured& m = choice.measured;
  return fmt::format("{} past it; through it {}, {} held already, and it can hold {:.0f} % of what has no slot: {}",
                     Rate(m.direct_rate),
                     m.cold_rate > 0 ? Rate(m.cold_rate) + " cold" : Rate(kColdShare * m.direct_rate) + " cold (taken as half)",
                     Rate(m.warm_rate), 100 * choice.held_share, Rate(choice.buffered_rate));
}

}  // namespace

std::string_view ExpertIoName(ExpertIo io) { return kNames[static_cast<size_t>(io)]; }

std::optional<ExpertIo> ParseExpertIo(std::string_view name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<ExpertIo>(found - kNames.begin());
}

IoChoice ChooseIo(const IoMeasured& measured) {
  IoChoice choice{.why = IoChoice::Why::kMeasured, .measured = measured};
  const int64_t missing = measured.expert_bytes - measured.slot_bytes;
  const double beyond = static_cast<double>(measured.cache_bytes) - static_cast<double>(measured.slot_bytes);
  choice.held_share = missing > 0 ? std::clamp(beyond / static_cast<double>(missing), 0.0, 1.0) : 0.0;
  if (!measured.can_direct) {
    choice.why = IoChoice::Why::kNotDirect;
    choice.direct = false;
    return choice;
  }
  if (missing <= 0) {
    choice.why = IoChoice::Why::kAllFit;
    return choice;
  }
  if (!(measured.direct_rate > 0) || !(measured.warm_rate > 0)) {
    choice.why = IoChoice::Why::kNotMeasured;
    choice.problem = "too little could be read to compare";
    return choice;
  }
  const double cold = measured.cold_rate > 0 ? measured.cold_rate : kColdShare * measured.direct_rate;
  choice.buffered_rate = 1 / (choice.held_share / measured.warm_rate + (1 - choice.held_share) / cold);
  choice.direct = choice.buffered_rate < kIoMargin * measured.direct_rate;
  return choice;
}

std::string IoLine(const IoChoice& choice) {
  return fmt::format("experts are read {} the page cache: {}", choice.direct ? "past" : "through", Reason(choice));
}

}  // namespace fathom
