// Lines from a person: edited with history at a terminal (libedit), plain ones from a pipe.
//
// Not thread-safe. History lives in memory only: what people type is not written to disk.
#pragma once

#include <memory>
#include <string>

namespace fathom {

class LineReader {
 public:
  enum class Kind { kLine, kEnd, kInterrupt };
  struct Line {
    Kind kind = Kind::kEnd;
    std::string text;  // without the line break
  };

  virtual ~LineReader() = default;
  /// Shows the prompt (where there is a person to see it) and waits. kInterrupt: Ctrl-C (needs an InterruptScope), with
  /// the text that was given up.
  virtual Line Read(const std::string& prompt) = 0;
  /// Adds an entry to the history, where there is one.
  virtual void Remember(const std::string& entry) { (void)entry; }
  /// True when somebody sits there.
  virtual bool interactive() const { return false; }
};

/// libedit when stdin and stdout are terminals, else lines of stdin.
std::unique_ptr<LineReader> MakeLineReader();

/// One message, which may be several lines: a line that ends in a backslash goes on, and a line that starts with """
/// goes on to the next """. The marks are not part of the message.
LineReader::Line ReadMessage(LineReader& reader, const std::string& prompt, const std::string& more_prompt);

}  // namespace fathom
