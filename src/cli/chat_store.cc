#include "cli/chat_store.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/input.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;
constexpr char kFormat[] = "fathom-chat-1";

Result<std::string> StringField(const std::string& path, const ordered_json& object, const std::string& where,
                                const char* name, bool required) {
  const auto it = object.find(name);
  if (it == object.end()) {
    if (!required) return std::string();
    return Fail(ErrorCode::kCorrupt, "{}: {}{} is missing", path, where, name);
  }
  if (!it->is_string()) return Fail(ErrorCode::kCorrupt, "{}: {}{} is not a string", path, where, name);
  return it->get<std::string>();
}

}  // namespace

Status SaveChat(const std::string& path, const StoredChat& chat) {
  ordered_json object;
  object["format"] = kFormat;
  object["system"] = chat.system;
  object["default_system"] = chat.default_system;
  object["messages"] = ordered_json::array();
  for (const ChatMessage& message : chat.messages) {
    ordered_json entry;
    entry["role"] = message.role == Role::kUser ? "user" : message.role == Role::kAssistant ? "assistant" : "system";
    entry["content"] = message.content;
    if (!message.reasoning_content.empty()) entry["reasoning_content"] = message.reasoning_content;
    object["messages"].push_back(std::move(entry));
  }
  const std::string text = object.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  const std::string beside = path + ".tmp";
  std::FILE* file = std::fopen(beside.c_str(), "wb");
  if (file == nullptr) return Fail(ErrorCode::kIo, "{}: {}", path, std::strerror(errno));
  bool good = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  good = std::fclose(file) == 0 && good;
  if (!good || std::rename(beside.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(beside.c_str());
    return Fail(ErrorCode::kIo, "{}: {}", path, std::strerror(error));
  }
  return {};
}

Result<StoredChat> LoadChat(const std::string& path) {
  FATHOM_TRY(const std::string text, ReadInput(path));
  const ordered_json object = ordered_json::parse(text, nullptr, false);
  if (object.is_discarded() || !object.is_object()) return Fail(ErrorCode::kCorrupt, "{}: not a JSON object", path);
  FATHOM_TRY(const std::string format, StringField(path, object, "", "format", true));
  if (format != kFormat) return Fail(ErrorCode::kUnsupported, "{}: format is not {}", path, kFormat);
  StoredChat chat;
  FATHOM_TRY(chat.system, StringField(path, object, "", "system", false));
  if (const auto it = object.find("default_system"); it != object.end() && it->is_boolean()) {
    chat.default_system = it->get<bool>();
  }
  const auto messages = object.find("messages");
  if (messages == object.end() || !messages->is_array()) {
    return Fail(ErrorCode::kCorrupt, "{}: messages is not an array", path);
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    const ordered_json& entry = (*messages)[i];
    const std::string where = fmt::format("messages[{}].", i);
    if (!entry.is_object()) return Fail(ErrorCode::kCorrupt, "{}: messages[{}] is not an object", path, i);
    ChatMessage message;
    FATHOM_TRY(const std::string role, StringField(path, entry, where, "role", true));
    FATHOM_TRY(message.content, StringField(path, entry, where, "content", true));
    FATHOM_TRY(message.reasoning_content, StringField(path, entry, where, "reasoning_content", false));
    if (role == "system" && i == 0) {  // other programs keep it in the list
      chat.system = message.content;
      chat.default_system = false;
      continue;
    }
    if (role != "user" && role != "assistant") {
      return Fail(ErrorCode::kCorrupt, "{}: {}role is not user or assistant", path, where);
    }
    message.role = role == "user" ? Role::kUser : Role::kAssistant;
    chat.messages.push_back(std::move(message));
  }
  return chat;
}

}  // namespace fathom
