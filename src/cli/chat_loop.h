// The conversation behind `fathom chat`: messages, slash commands, answers as they come.
//
// Everything it touches comes from outside (engine, reader, streams), so that tests can hold a conversation with a fake
// engine. One thread. An error of one turn is shown and the conversation goes on.
#pragma once

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/answer.h"
#include "cli/line_reader.h"
#include "engine/engine.h"
#include "text/chat.h"

namespace fathom {

struct ChatSettings {
  GenerationParams params;
  ChatFormat format = ChatFormat::kPlain;
  std::string system;          // empty: the model's own
  bool default_system = true;  // false: not even the model's own
  bool thinking = false;
  bool show_thinking = true;
  bool quiet = false;
};

class ChatLoop {
 public:
  /// The engine and the reader must outlive the loop. `out` gets answers, `err` everything else.
  ChatLoop(Engine& engine, ChatSettings settings, LineReader& reader, std::FILE* out, std::FILE* err)
      : engine_(engine), settings_(std::move(settings)), reader_(reader), out_(out), err_(err) {}

  /// Until /exit, Ctrl-D, or Ctrl-C twice at the prompt. Errors only when no session can be made.
  Status Run();

  const std::vector<ChatMessage>& messages() const { return messages_; }
  const ChatSettings& settings() const { return settings_; }

 private:
  enum class Next { kGoOn, kExit };

  Next Command(const std::string& line);
  void Turn(std::string text);
  void Answer();
  void Regenerate();
  Status MakeRoom(Prompt& prompt);
  Result<Prompt> PromptNow() const;
  Status Set(const std::string& assignment);
  Status Save(const std::string& path) const;
  Status Load(const std::string& path);
  void Statistics() const;
  void Note(const std::string& text) const;
  void Complain(const Error& error) const;
  std::string PromptText() const;

  Engine& engine_;
  ChatSettings settings_;
  LineReader& reader_;
  std::FILE* out_;
  std::FILE* err_;
  std::unique_ptr<Session> session_;
  std::vector<ChatMessage> messages_;  // without the system message
  uint64_t regenerations_ = 0;
  // Totals for the closing line.
  int64_t answers_ = 0;
  Timings total_;
  double decode_steps_ = 0;
};

/// "temp=0.7" applied to params, checked against their ranges; kInvalidArgument names the setting.
Status ApplySetting(const std::string& assignment, int32_t vocab_size, GenerationParams& params);

}  // namespace fathom
