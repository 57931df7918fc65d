// How experts are read: past the page cache (O_DIRECT) or through it, and which of the two will be sooner.
//
// Past it, a missing expert always costs a read of the disk, in large pieces and without a copy. Through it, experts that the
// kernel still holds cost a copy and the others a slower read, and memory is used that nobody counted. So the page cache wins
// where memory is left for most of what slots do not hold, and loses where it is not. Pure functions; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fathom {

enum class ExpertIo { kAuto, kDirect, kBuffered };
/// "auto", "direct", "buffered".
std::string_view ExpertIoName(ExpertIo io);
std::optional<ExpertIo> ParseExpertIo(std::string_view name);

/// What a choice is made from.
struct IoMeasured {
  bool can_direct = true;   // the file system reads past the page cache
  double direct_rate = 0;   // bytes/s past it; 0: not measured
  double cold_rate = 0;     // bytes/s through it, of what it did not hold; 0: nothing such was found
  double warm_rate = 0;     // bytes/s through it, of what it holds; 0: not measured
  int64_t expert_bytes = 0;  // of all experts
  int64_t slot_bytes = 0;    // of those that slots hold
  int64_t cache_bytes = 0;   // memory that the page cache may have for the model, this process at its largest
};

struct IoChoice {
  enum class Why {
    kAsked,        // by its name
    kPromise,      // a promise of memory counts the page cache
    kAllFit,       // slots for all experts: each is read once
    kNotDirect,    // the file system cannot
    kNotMeasured,  // see problem
    kMeasured,
  };
  ExpertIo asked = ExpertIo::kAuto;
  bool direct = true;
  Why why = Why::kAsked;
  IoMeasured measured;
  double held_share = 0;     // of what slots do not hold, that the page cache can: [0, 1]
  double buffered_rate = 0;  // bytes/s to expect through the page cache, with that; 0: not known
  std::string problem;       // why nothing was measured, in words
};

/// Through the page cache only when that is clearly (kIoMargin) sooner; without both rates, past it.
///
/// A missing byte costs 1 / direct, or f / warm + (1 − f) / cold, where f is the share of what slots do not hold that the page
/// cache can. It fills with what is read, and so also with what slots hold; only what is left beyond as much counts. Where
/// nothing cold was found to measure, kColdShare of the direct rate stands for it.
IoChoice ChooseIo(const IoMeasured& measured);
inline constexpr double kIoMargin = 1.1;
inline constexpr double kColdShare = 0.5;

/// One line without a break: what was chosen, and why, with the figures.
std::string IoLine(const IoChoice& choice);

}  // namespace fathom
