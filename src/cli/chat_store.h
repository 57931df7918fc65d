// Conversations as files: {"format": "fathom-chat-1", "system": …, "messages": [{"role", "content", …}]}, the message
// objects of the OpenAI dialect, so that other programs can read them.
//
// Errors name the file and the field.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "text/chat.h"

namespace fathom {

struct StoredChat {
  std::string system;
  bool default_system = true;
  std::vector<ChatMessage> messages;  // user and assistant only
};

/// Replaces the file whole (written beside it and renamed).
Status SaveChat(const std::string& path, const StoredChat& chat);
Result<StoredChat> LoadChat(const std::string& path);

}  // namespace fathom
