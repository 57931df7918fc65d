#include "cli/line_reader.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <iostream>

#include "cli/interrupt.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

class PlainReader : public LineReader {
 public:
  Line Read(const std::string&) override {
    Line line;
    // A terminal hands over one line at a time; what a pipe has delivered may already be in our buffers.
    while (isatty(STDIN_FILENO)) {
      const InputWait wait = WaitForInput();
      if (wait == InputWait::kReady) break;
      if (wait == InputWait::kInterrupted) {
        line.kind = Kind::kInterrupt;
        return line;
      }
    }
    if (!std::getline(std::cin, line.text)) {
      line.kind = Interrupted() ? Kind::kInterrupt : Kind::kEnd;
      if (line.kind == Kind::kInterrupt) std::cin.clear();
      return line;
    }
    if (!line.text.empty() && line.text.back() == '\r') line.text.pop_back();
    line.kind = Kind::kLine;
    return line;
  }
};

/// One character for libedit. Its own reader retries after a signal; ours gives up the line when that was Ctrl-C.
int ReadCharacter(EditLine* edit, wchar_t* out) {
  std::mbstate_t state{};
  for (;;) {
    const InputWait wait = WaitForInput();
    if (wait == InputWait::kInterrupted) return -1;
    if (wait == InputWait::kOtherSignal) {  // SIGWINCH
      el_resize(edit);
      continue;
    }
    char byte;
    const ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got == 0) return 0;
    if (got < 0) {
      if (errno != EINTR) return -1;
      continue;
    }
    const size_t result = std::mbrtowc(out, &byte, 1, &state);
    if (result == static_cast<size_t>(-2)) continue;  // more bytes to come
    if (result == static_cast<size_t>(-1)) {
      state = {};
      *out = L'\ufffd';
    }
    return 1;
  }
}

class EditReader : public LineReader {
 public:
  EditReader() {
    edit_ = el_init("fathom", stdin, stdout, stderr);
    history_ = history_init();
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    history(history_, &event, H_SETUNIQUE, 1);
    el_set(edit_, EL_CLIENTDATA, this);
    el_set(edit_, EL_PROMPT_ESC, &EditReader::Prompt, '\1');
    el_set(edit_, EL_EDITOR, "emacs");
    el_set(edit_, EL_HIST, history, history_);
    el_set(edit_, EL_GETCFN, ReadCharacter);
    el_set(edit_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_source(edit_, nullptr);  // ~/.editrc, for those who have one
  }
  ~EditReader() override {
    history_end(history_);
    el_end(edit_);
  }

  Line Read(const std::string& prompt) override {
    prompt_ = prompt;
    // libedit shows its prompt before it takes the terminal over; a Ctrl-D typed in between would be lost.
    el_set(edit_, EL_PREP_TERM, 1);
    int count = 0;
    const char* text = el_gets(edit_, &count);
    if (text == nullptr || count <= 0) {
      std::fputc('\n', stdout);
      if (!Interrupted()) return {Kind::kEnd, {}};
      const LineInfo* given_up = el_line(edit_);
      return {Kind::kInterrupt, std::string(given_up->buffer, given_up->lastchar)};
    }
    std::string line(text);
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    return {Kind::kLine, std::move(line)};
  }

  void Remember(const std::string& entry) override {
    HistEvent event;
    history(history_, &event, H_ENTER, entry.c_str());
  }
  bool interactive() const override { return true; }

 private:
  static char* Prompt(EditLine* edit) {
    EditReader* self = nullptr;
    el_get(edit, EL_CLIENTDATA, &self);
    return self->prompt_.data();
  }

  EditLine* edit_;
  History* history_;
  std::string prompt_;
};

bool StartsWithQuotes(const std::string& text) { return text.starts_with("\"\"\""); }

}  // namespace

std::unique_ptr<LineReader> MakeLineReader() {
  if (isatty(STDIN_FILENO) && IsTerminal(stdout)) return std::make_unique<EditReader>();
  return std::make_unique<PlainReader>();
}

LineReader::Line ReadMessage(LineReader& reader, const std::string& prompt, const std::string& more_prompt) {
  LineReader::Line message = reader.Read(prompt);
  if (message.kind != LineReader::Kind::kLine) return message;

  if (StartsWithQuotes(message.text)) {
    std::string text = message.text.substr(3);
    size_t close;
    while ((close = text.find("\"\"\"")) == std::string::npos) {
      LineReader::Line next = reader.Read(more_prompt);
      if (next.kind == LineReader::Kind::kInterrupt) return next;
      if (next.kind == LineReader::Kind::kEnd) break;  // what was typed so far is the message
      text += (text.empty() ? "" : "\n") + next.text;
    }
    if (close != std::string::npos) text.resize(close);
    if (!text.empty() && text.back() == '\n') text.pop_back();
    message.text = std::move(text);
  } else {
    while (message.text.ends_with('\\')) {
      message.text.back() = '\n';
      LineReader::Line next = reader.Read(more_prompt);
      if (next.kind == LineReader::Kind::kInterrupt) return next;
      if (next.kind == LineReader::Kind::kEnd) break;
      message.text += next.text;
    }
  }
  return message;
}

}  // namespace fathom
