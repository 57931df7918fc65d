// Progress of long work, on stderr: nothing for what ends within a second, then a bar with the time left at a terminal,
// or a line now and then where stderr is a file or a pipe.
//
// One at a time, from one thread. The bar is wiped when the object goes; lines stay.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

namespace fathom {

class Progress {
 public:
  enum class Unit { kCount, kBytes, kShare };
  struct Options {
    Unit unit = Unit::kCount;
    bool quiet = false;
    std::FILE* stream = stderr;
    // Tests set these; by default asked of the stream and the steady clock.
    int terminal = -1;  // 0 no, 1 yes, -1 ask
    int width = 0;      // 0 ask
    std::function<double()> now;  // seconds
  };

  explicit Progress(std::string label) : Progress(std::move(label), Options()) {}
  Progress(std::string label, Options options);
  ~Progress() { Finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// done of total (total <= 0: unknown); detail stands at the line's end. Cheap to call often. Rates and the time left
  /// count from the first call, so that work done earlier (a resumed download) does not flatter them.
  void Update(int64_t done, int64_t total, std::string_view detail = {});
  /// Wipes the bar. Calling Update() again shows it anew.
  void Finish();
  void SetLabel(std::string label) { label_ = std::move(label); }

 private:
  std::string Line(int64_t done, int64_t total, std::string_view detail, double now) const;

  std::string label_;
  Options options_;
  bool terminal_;
  double started_;
  double first_update_ = -1;
  int64_t first_done_ = 0;
  double last_shown_ = -1;
  double line_interval_ = 5;  // seconds between lines; grows, so that an hour's work is not a thousand lines
  bool visible_ = false;
};

}  // namespace fathom
