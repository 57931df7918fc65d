#include "text/chat.h"

#include <algorithm>

#include "text/unicode.h"

namespace fathom {
namespace {

// A prompt as it is built: control tokens by name, and text between them. Neighbouring pieces of text are one text when
// they are encoded, for words may span them ("user\n" before a content that begins with a newline), and all of it is
// encoded as untrusted: the formats' own words need no control tokens.
struct Segment {
  bool is_mark;
  bool optional = false;  // a mark that is plain text in vocabularies without it (<think>)
  std::string text;
};

constexpr std::string_view kDeepseekBos = "<｜begin▁of▁sentence｜>", kDeepseekEos = "<｜end▁of▁sentence｜>",
                           kUserMark = "<｜User｜>", kAssistantMark = "<｜Assistant｜>", kLlamaBos = "<|begin_of_text|>",
                           kThink = "<think>", kEndThink = "</think>";

std::string_view RoleName(Role role) {
  switch (role) {
    case Role::kSystem: return "system";
    case Role::kUser: return "user";
    case Role::kAssistant: return "assistant";
  }
  return "user";
}

// Jinja's trim, that is Python's str.strip().
std::string_view Trim(std::string_view text) {
  const auto is_space = [](uint32_t c) {
    static const CodePointSet* const kSpaces = [] {
      auto* set = new CodePointSet(CodePointSet::WhiteSpace());
      set->Add(0x1C, 0x1F);
      set->ranges();  // sorted here, once
      return set;
    }();
    return kSpaces->Contains(c);
  };
  while (!text.empty()) {
    const Utf8Char c = DecodeUtf8(text, 0);
    if (!is_space(c.code_point)) break;
    text.remove_prefix(c.length);
  }
  while (!text.empty()) {
    size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    const Utf8Char c = DecodeUtf8(text, start);
    if (c.length != text.size() - start || !is_space(c.code_point)) break;
    text.remove_suffix(c.length);
  }
  return text;
}

class Builder {
 public:
  void Mark(std::string_view name) { segments_.push_back({true, false, std::string(name)}); }
  void Think(std::string_view name) { segments_.push_back({true, true, std::string(name)}); }
  void Text(std::string_view text) {
    if (!segments_.empty() && !segments_.back().is_mark) segments_.back().text += text;
    else if (!text.empty()) segments_.push_back({false, false, std::string(text)});
  }
  std::vector<Segment> Take() { return std::move(segments_); }

 private:
  std::vector<Segment> segments_;
};

void BuildDeepseekV2(const std::vector<ChatMessage>& messages, const ChatOptions& options, Builder& out) {
  out.Mark(kDeepseekBos);
  for (const ChatMessage& message : messages) {
    switch (message.role) {
      case Role::kSystem: out.Text(message.content + "\n\n"); break;
      case Role::kUser: out.Text("User: " + message.content + "\n\n"); break;
      case Role::kAssistant:
        out.Text("Assistant: " + message.content);
        out.Mark(kDeepseekEos);
        break;
    }
  }
  if (options.add_generation_prompt) out.Text("Assistant:");
}

// All system messages come first, joined by empty lines, wherever they stood.
void DeepseekSystem(const std::vector<ChatMessage>& messages, Builder& out) {
  bool first = true;
  for (const ChatMessage& message : messages) {
    if (message.role != Role::kSystem) continue;
    out.Text((first ? "" : "\n\n") + message.content);
    first = false;
  }
}

// V3, and R1, which leaves old reasoning out of the history and always goes on thinking.
void BuildDeepseekV3(bool r1, const std::vector<ChatMessage>& messages, const ChatOptions& options, Builder& out) {
  out.Mark(kDeepseekBos);
  DeepseekSystem(messages, out);
  for (const ChatMessage& message : messages) {
    if (message.role == Role::kUser) {
      out.Mark(kUserMark);
      out.Text(message.content);
    } else if (message.role == Role::kAssistant) {
      std::string_view content = message.content;
      if (const size_t end = content.rfind(kEndThink); r1 && end != std::string_view::npos) {
        content.remove_prefix(end + kEndThink.size());
      }
      out.Mark(kAssistantMark);
      out.Text(content);
      out.Mark(kDeepseekEos);
    }
  }
  if (options.add_generation_prompt) {
    out.Mark(kAssistantMark);
    if (r1) {
      out.Think(kThink);
      out.Text("\n");
    }
  }
}

// Past answers follow </think> whatever mode made them; the new one follows <think> or </think>.
void BuildDeepseekV31(const std::vector<ChatMessage>& messages, const ChatOptions& options, Builder& out) {
  out.Mark(kDeepseekBos);
  DeepseekSystem(messages, out);
  bool last_is_user = false;
  for (const ChatMessage& message : messages) {
    if (message.role == Role::kUser) {
      out.Mark(kUserMark);
      out.Text(message.content);
      last_is_user = true;
    } else if (message.role == Role::kAssistant) {
      if (last_is_user) {
        out.Mark(kAssistantMark);
        out.Think(kEndThink);
      }
      std::string_view content = message.content;
      if (const size_t end = content.find(kEndThink); end != std::string_view::npos) {
        content.remove_prefix(end + kEndThink.size());
      }
      out.Text(content);
      out.Mark(kDeepseekEos);
      last_is_user = false;
    }
  }
  if (options.add_generation_prompt && last_is_user) {
    out.Mark(kAssistantMark);
    out.Think(options.thinking ? kThink : kEndThink);
  }
}

void BuildChatML(const std::vector<ChatMessage>& messages, const ChatOptions& options, Builder& out) {
  const auto turn = [&](std::string_view role, std::string_view content) {
    out.Mark("<|im_start|>");
    out.Text(role);
    out.Text("\n");
    out.Text(content);
    out.Mark("<|im_end|>");
    out.Text("\n");
  };
  if (!options.default_system.empty() && messages.front().role != Role::kSystem) turn("system", options.default_system);
  for (const ChatMessage& message : messages) turn(RoleName(message.role), message.content);
  if (options.add_generation_prompt) {
    out.Mark("<|im_start|>");
    out.Text("assistant\n");
  }
}

void BuildLlama3(const std::vector<ChatMessage>& messages, const ChatOptions& options, Builder& out) {
  const auto header = [&](std::string_view role) {
    out.Mark("<|start_header_id|>");
    out.Text(role);
    out.Mark("<|end_header_id|>");
    out.Text("\n\n");
  };
  out.Mark(kLlamaBos);
  if (!options.default_system.empty() && messages.front().role != Role::kSystem) {
    header("system");
    out.Text(Trim(options.default_system));
    out.Mark("<|eot_id|>");
  }
  for (const ChatMessage& message : messages) {
    header(RoleName(message.role));
    out.Text(Trim(message.content));
    out.Mark("<|eot_id|>");
  }
  if (options.add_generation_prompt) header("assistant");
}

// A model without a format: the texts, one after the other.
void BuildPlain(const std::vector<ChatMessage>& messages, Builder& out) {
  for (size_t i = 0; i < messages.size(); ++i) {
    if (i > 0) out.Text("\n");
    out.Text(messages[i].content);
  }
}

std::vector<Segment> Build(ChatFormat format, const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  Builder out;
  switch (format) {
    case ChatFormat::kDeepseekV2: BuildDeepseekV2(messages, options, out); break;
    case ChatFormat::kDeepseekV3: BuildDeepseekV3(false, messages, options, out); break;
    case ChatFormat::kDeepseekR1: BuildDeepseekV3(true, messages, options, out); break;
    case ChatFormat::kDeepseekV31: BuildDeepseekV31(messages, options, out); break;
    case ChatFormat::kChatML: BuildChatML(messages, options, out); break;
    case ChatFormat::kLlama3: BuildLlama3(messages, options, out); break;
    case ChatFormat::kPlain: BuildPlain(messages, out); break;
  }
  return out.Take();
}

struct Name {
  std::string_view name;
  ChatFormat format;
};
// The first name of each format is the one it is shown by.
constexpr Name kNames[] = {
    {"deepseek-v2", ChatFormat::kDeepseekV2},   {"deepseek-v3", ChatFormat::kDeepseekV3},
    {"deepseek-r1", ChatFormat::kDeepseekR1},   {"deepseek-v3.1", ChatFormat::kDeepseekV31},
    {"chatml", ChatFormat::kChatML},            {"llama-3", ChatFormat::kLlama3},
    {"plain", ChatFormat::kPlain},              {"deepseek-v31", ChatFormat::kDeepseekV31},
    {"deepseek-v2.5", ChatFormat::kDeepseekV2}, {"llama3", ChatFormat::kLlama3},
    {"qwen2", ChatFormat::kChatML},             {"smollm2", ChatFormat::kChatML},
    {"none", ChatFormat::kPlain},
};

}  // namespace

std::string_view ChatFormatName(ChatFormat format) {
  for (const Name& name : kNames) {
    if (name.format == format) return name.name;
  }
  return "plain";
}

std::optional<ChatFormat> ParseChatFormat(std::string_view name) {
  for (const Name& known : kNames) {
    if (known.name == name) return known.format;
  }
  return std::nullopt;
}

ChatFormat DetectChatFormat(std::string_view jinja, const Tokenizer& tokenizer) {
  const auto has = [&](std::string_view text) { return jinja.find(text) != std::string_view::npos; };
  if (!jinja.empty()) {
    if (has(kUserMark) && has(kAssistantMark)) {
      // V3.1 chooses by a variable; R1 writes <think> always (its later revision only drops old reasoning).
      if (has("thinking")) {
        const bool always = has("<｜Assistant｜><think>\\n") || has("<｜Assistant｜><think>\n");
        return always ? ChatFormat::kDeepseekR1 : ChatFormat::kDeepseekV31;
      }
      return has(kThink) || has(kEndThink) ? ChatFormat::kDeepseekR1 : ChatFormat::kDeepseekV3;
    }
    if (has("<|start_header_id|>")) return ChatFormat::kLlama3;
    if (has("<|im_start|>")) return ChatFormat::kChatML;
    if (has("User: ") && has("Assistant:") && has("eos_token")) return ChatFormat::kDeepseekV2;
    return ChatFormat::kPlain;
  }
  const auto knows = [&](std::string_view mark) { return tokenizer.IsControl(tokenizer.FindToken(mark)); };
  if (knows(kUserMark) && knows(kAssistantMark)) {
    if (knows("<｜search▁begin｜>")) return ChatFormat::kDeepseekV31;  // V3.1 gave place holders a meaning
    return tokenizer.FindToken(kThink) >= 0 ? ChatFormat::kDeepseekR1 : ChatFormat::kDeepseekV3;
  }
  if (knows("<|start_header_id|>") && knows("<|eot_id|>")) return ChatFormat::kLlama3;
  if (knows("<|im_start|>") && knows("<|im_end|>")) return ChatFormat::kChatML;
  return ChatFormat::kPlain;
}

bool DefaultThinking(std::string_view jinja) {
  return jinja.find("set thinking = true") != std::string_view::npos;
}

std::string DefaultSystemMessage(std::string_view jinja) {
  // A system turn that is one literal in the template: '<|im_start|>system\n…<|im_end|>…', the newline escaped or not.
  constexpr std::string_view kOpen = "<|im_start|>system", kClose = "<|im_end|>";
  for (size_t at = jinja.find(kOpen); at != std::string_view::npos; at = jinja.find(kOpen, at + 1)) {
    std::string_view rest = jinja.substr(at + kOpen.size());
    if (rest.starts_with("\\n")) rest.remove_prefix(2);
    else if (rest.starts_with("\n")) rest.remove_prefix(1);
    else continue;
    const size_t end = rest.find(kClose);
    if (end == std::string_view::npos) break;
    const std::string_view text = rest.substr(0, end);
    if (!text.empty() && text.find_first_of("'\"{}\\") == std::string_view::npos) return std::string(text);
  }
  return {};
}

std::string RenderChat(ChatFormat format, const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  std::string out;
  if (messages.empty()) return out;
  for (const Segment& segment : Build(format, messages, options)) out += segment.text;
  return out;
}

Result<std::vector<TokenId>> EncodeChat(ChatFormat format, const Tokenizer& tokenizer,
                                        const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  if (messages.empty()) return Fail(ErrorCode::kInvalidArgument, "the conversation is empty");
  std::vector<TokenId> ids;
  if (format == ChatFormat::kPlain && tokenizer.add_bos() && tokenizer.bos_id() >= 0) ids.push_back(tokenizer.bos_id());
  std::string text;
  const auto flush = [&] {
    tokenizer.Encode(text, TextTrust::kUser, ids);
    text.clear();
  };
  for (const Segment& segment : Build(format, messages, options)) {
    if (!segment.is_mark) {
      text += segment.text;
      continue;
    }
    TokenId id = tokenizer.FindToken(segment.text);
    // Vocabularies may call BOS and EOS something else.
    if (id < 0 && (segment.text == kDeepseekBos || segment.text == kLlamaBos)) id = tokenizer.bos_id();
    if (id < 0 && segment.text == kDeepseekEos) id = tokenizer.eos_id();
    if (id < 0 && segment.optional) {
      text += segment.text;
      continue;
    }
    if (id < 0) {
      return Fail(ErrorCode::kUnsupported, "the vocabulary has no {}, which the chat format {} needs", segment.text,
                  ChatFormatName(format));
    }
    flush();
    ids.push_back(id);
  }
  flush();
  return ids;
}

bool HasThinkingSwitch(ChatFormat format) { return format == ChatFormat::kDeepseekV31; }

bool PromptEndsInThinking(ChatFormat format, const ChatOptions& options) {
  if (!options.add_generation_prompt) return false;
  return format == ChatFormat::kDeepseekR1 || (format == ChatFormat::kDeepseekV31 && options.thinking);
}

}  // namespace fathom
