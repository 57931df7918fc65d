#include "cli/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/terminal.h"

namespace fathom {
namespace {

constexpr double kSilence = 1.0;       // work that ends sooner is never mentioned
constexpr double kRedraw = 0.1;
constexpr double kMostBetweenLines = 60;
constexpr int kBarWidth = 24;

std::string Bar(double share) {
  const int full = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * kBarWidth));
  std::string bar = "[";
  for (int i = 0; i < kBarWidth; ++i) bar += i < full ? '#' : '-';
  return bar + "]";
}

}  // namespace

Progress::Progress(std::string label, Options options) : label_(std::move(label)), options_(std::move(options)) {
  terminal_ = options_.terminal < 0 ? IsTerminal(options_.stream) : options_.terminal == 1;
  if (!options_.now) {
    options_.now = [] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
    };
  }
  started_ = options_.now();
}

std::string Progress::Line(int64_t done, int64_t total, std::string_view detail, double now) const {
  std::string line = label_;
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  if (total > 0) {
    if (terminal_) line += " " + Bar(share);
    line += fmt::format(" {:3.0f}%", 100 * std::clamp(share, 0.0, 1.0));
  }
  if (options_.unit == Unit::kBytes) {
    line += " " + HumanBytes(done);
    if (total > 0) line += " of " + HumanBytes(total);
  } else if (options_.unit == Unit::kCount) {
    line += fmt::format(" {}", done);
    if (total > 0) line += fmt::format("/{}", total);
  }
  const double elapsed = now - first_update_;
  const auto gained = static_cast<double>(done - first_done_);
  if (elapsed > 0.5 && gained > 0) {
    if (options_.unit == Unit::kBytes)
      line += fmt::format(", {}/s", HumanBytes(static_cast<int64_t>(gained / elapsed)));
    if (total > done) line += ", " + HumanSeconds(static_cast<double>(total - done) * elapsed / gained) + " left";
  }
  if (!detail.empty()) line += fmt::format(", {}", detail);
  return line;
}

void Progress::Update(int64_t done, int64_t total, std::string_view detail) {
  if (options_.quiet) return;
  const double now = options_.now();
  if (first_update_ < 0) first_update_ = now, first_done_ = done;
  if (now - started_ < kSilence) return;
  if (last_shown_ >= 0 && now - last_shown_ < (terminal_ ? kRedraw : line_interval_)) return;
  const std::string line = Line(done, total, detail, now);
  if (terminal_) {
    const int width = options_.width > 0 ? options_.width : TerminalWidth(options_.stream);
    std::fprintf(options_.stream, "\r%s\033[K", OneLine(line, static_cast<size_t>(std::max(width - 2, 10))).c_str());
    visible_ = true;
  } else {
    std::fprintf(options_.stream, "%s\n", OneLine(line, 400).c_str());
    if (last_shown_ >= 0) line_interval_ = std::min(line_interval_ * 1.5, kMostBetweenLines);
  }
  std::fflush(options_.stream);
  last_shown_ = now;
}

void Progress::Finish() {
  if (!visible_) return;
  std::fputs("\r\033[K", options_.stream);
  std::fflush(options_.stream);
  visible_ = false;
}

}  // namespace fathom
