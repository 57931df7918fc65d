#include "cli/cache_folder.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/input.h"
#include "cli/models.h"
#include "cli/option_checks.h"
#include "cli/options.h"
#include "engine/engine.h"
#include "engine/fingerprint.h"
#include "engine/tokenizer_loader.h"
#include "io/env.h"
#include "model/kv_layout.h"
#include "text/chat.h"

namespace fathom {
namespace {

using nlohmann::json;

constexpr char kLockName[] = "fathom-kv.lock";
constexpr int64_t kLeastCapacity = int64_t{1} << 30;  // of an opened folder; room is only taken when something is written

// The Jinja source that names the chat format, as the engine finds it.
std::string_view TemplateOf(const TokenizerSource& source) {
  return source.chat_template.empty() ? source.tokenizer_config_json : source.chat_template;
}

/// The space of this model that the folder has blocks of.
Result<KvSpace> ChooseSpace(const ModelFile& model, const CacheFolderOptions& options, const std::string& directory,
                            const std::vector<SpaceListing>& there) {
  std::vector<KvSpace> found;
  std::string names;
  for (const std::string& name : kKvTypes) {
    if (name == "auto" || (options.kv_type != "auto" && options.kv_type != name)) continue;
    FATHOM_TRY(KvSpace space, SpaceOf(model, KvLayoutOf(model.config(), *ParseKvType(name))));
    const std::string digest = ToHex(space.Digest());
    if (std::none_of(there.begin(), there.end(), [&](const auto& listing) { return listing.digest == digest; })) continue;
    names += (names.empty() ? "" : " and ") + name;
    found.push_back(std::move(space));
  }
  if (found.empty()) {
    return Fail(ErrorCode::kNotFound,
                "{}: holds nothing of this model{}\n'fathom cache ls --cache-dir {}' names what it holds. The same "
                "weights in another quantisation are another model.",
                directory, options.kv_type == "auto" ? "" : " in " + options.kv_type, directory);
  }
  if (found.size() > 1) {
    return Fail(ErrorCode::kInvalidArgument, "{}: holds blocks of this model in {}; say which with --kv-type", directory,
                names);
  }
  return std::move(found.front());
}

Result<std::vector<ChatMessage>> ParseMessages(const std::string& text, const std::string& name) {
  const json list = json::parse(text, nullptr, false);
  if (!list.is_array() || list.empty())
    return Fail(ErrorCode::kInvalidArgument, "{}: not a JSON array of messages {{\"role\", \"content\"}}", name);
  std::vector<ChatMessage> messages;
  for (const json& one : list) {
    const auto field = [&](const char* key) -> std::string {
      return one.is_object() && one.contains(key) && one[key].is_string() ? one[key].get<std::string>() : std::string();
    };
    const std::string role = field("role");
    ChatMessage& message = messages.emplace_back();
    message.content = field("content");
    message.reasoning_content = field("reasoning_content");
    if (role == "system" || role == "developer") {
      message.role = Role::kSystem;
    } else if (role == "assistant") {
      message.role = Role::kAssistant;
    } else if (role != "user") {
      return Fail(ErrorCode::kInvalidArgument, "{}: message {}: \"role\" is not system, user or assistant", name,
                  messages.size());
    }
    if (!one.contains("content") || !one["content"].is_string()) {
      return Fail(ErrorCode::kInvalidArgument, "{}: message {}: \"content\" is not a string", name, messages.size());
    }
  }
  return messages;
}

}  // namespace

std::string DefaultCacheFolder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/')
    return JoinPath(cache, "fathom/kv");
  const char* home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? std::string() : JoinPath(home, ".cache/fathom/kv");
}

void AddCacheFolderOptions(CLI::App& command, CacheFolderOptions& options) {
  command
      .add_option("--cache-dir", options.directory,
                  "the folder that 'fathom serve' was given; default: $XDG_CACHE_HOME/fathom/kv")
      ->type_name("DIR");
  command
      .add_option("-m,--model", options.model,
                  "whose blocks: a .gguf file, a Hugging Face directory, or a pulled model's name; default: "
                  "$FATHOM_MODEL or the pulled model")
      ->type_name("MODEL")
      ->check(ModelName());
  command.add_option("--kv-type", options.kv_type, "element type of the blocks: auto, f32, f16, bf16, fp8 or int8")
      ->type_name("TYPE")
      ->check(CLI::IsMember(kKvTypes));
  command.add_option("--cache-key-file", options.key_file, "the key of an encrypted cache")->type_name("FILE");
  command.add_option("--tenant", options.tenant, "whose prompts, where the server has API keys; default: nobody's")
      ->type_name("NAME");
  command.add_flag("--json", options.json, "as JSON");
}

Result<std::string> FindCacheFolder(const CacheFolderOptions& options) {
  const std::string directory = options.directory.empty() ? DefaultCacheFolder() : options.directory;
  if (directory.empty())
    return Fail(ErrorCode::kNotFound, "neither XDG_CACHE_HOME nor HOME is set\nSay where with --cache-dir DIR.");
  Env& env = Env::Default();
  if (!env.IsDirectory(directory)) {
    return Fail(ErrorCode::kNotFound,
                "{}: there is no such cache folder\n'fathom serve --cache-disk SIZE' makes one; --cache-dir DIR says "
                "where it is.",
                directory);
  }
  if (!env.Exists(JoinPath(directory, kLockName)))
    return Fail(ErrorCode::kNotFound, "{}: is not a cache folder (there is no {} in it)", directory, kLockName);
  return directory;
}

Result<std::vector<SpaceListing>> ListSpaces(const std::string& directory) {
  Env& env = Env::Default();
  FATHOM_TRY(const auto names, env.List(directory));
  std::vector<SpaceListing> spaces;
  for (const std::string& name : names) {
    const std::string folder = JoinPath(directory, name);
    const bool hex = name.size() == 32 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (!hex || !env.IsDirectory(folder)) continue;
    SpaceListing& listing = spaces.emplace_back(SpaceListing{.digest = name});
    FATHOM_TRY(const auto files, env.List(folder));
    for (const std::string& file : files) {
      if (!file.starts_with("kv-") || !file.ends_with(".seg")) continue;
      const auto bytes = env.FileSize(JoinPath(folder, file));
      if (bytes) ++listing.files, listing.bytes += *bytes;
    }
  }
  std::sort(spaces.begin(), spaces.end(), [](const auto& a, const auto& b) { return a.digest < b.digest; });
  return spaces;
}

Result<CacheFolder> OpenCacheFolder(const CacheFolderOptions& options, int64_t disk_bytes, int64_t ttl_seconds) {
  CacheFolder folder;
  FATHOM_TRY(folder.directory, FindCacheFolder(options));
  FATHOM_TRY(const auto spaces, ListSpaces(folder.directory));
  FATHOM_TRY(const std::string path, ResolveModel(options.model));
  FATHOM_TRY(folder.model, ModelFile::Open(path));
  FATHOM_TRY(folder.space, ChooseSpace(*folder.model, options, folder.directory, spaces));
  CacheOptions cache;
  cache.directory = folder.directory;
  cache.key_file = options.key_file;
  cache.default_limits.ttl_seconds = ttl_seconds;
  cache.disk_bytes = disk_bytes;
  if (disk_bytes == 0) {
    int64_t blocks = kLeastCapacity, logits = 0;
    for (const SpaceListing& listing : spaces) blocks += listing.bytes;
    const std::string logits_folder = JoinPath(folder.directory, "logits");
    if (Env::Default().IsDirectory(logits_folder)) {
      FATHOM_TRY(const auto listings, ListSpaces(logits_folder));
      for (const SpaceListing& listing : listings) logits += listing.bytes;
    }
    cache.disk_bytes = CacheOptions::DiskBytesFor(blocks, logits);
  }
  cache.logits_values = folder.model->config().vocab_size;
  folder.pool = std::make_unique<KvPool>(folder.space.layout);
  auto opened = KvCache::Create(Env::Default(), folder.space, *folder.pool, cache);
  if (!opened && opened.error().code == ErrorCode::kResource &&
      opened.error().message.find("in use by another") != std::string::npos) {
    return Fail(ErrorCode::kResource,
                "{}\nStop it first, or ask it: a server answers the same under /v1/cache (stat, ls, explain, pin, unpin, "
                "forget, verify, gc).",
                opened.error().message);
  }
  if (!opened) return std::unexpected(opened.error());
  folder.cache = std::move(*opened);
  return folder;
}

void AddPromptWords(CLI::App& command, PromptWords& words) {
  command.add_option_function<std::string>(
      "TEXT", [&words](const std::string& text) { words.text = text, words.has_text = true; },
      "the prompt, as /v1/completions takes it");
  command.add_option("-f,--file", words.file, "the text of a file ('-': standard input)")->type_name("FILE");
  command
      .add_option("--messages", words.messages,
                  "a conversation: a JSON file [{\"role\": …, \"content\": …}, …], as /v1/chat/completions takes it")
      ->type_name("FILE");
  command.add_option("--tokens", words.tokens, "token ids, comma separated")->delimiter(',')->allow_extra_args(false);
}

Result<std::vector<int32_t>> ReadPromptWords(const ModelFile& model, const PromptWords& words) {
  const int sources = words.has_text + !words.file.empty() + !words.messages.empty() + !words.tokens.empty();
  if (sources != 1) return Fail(ErrorCode::kInvalidArgument, "give exactly one of TEXT, --file, --messages and --tokens");
  if (!words.tokens.empty()) {
    for (const int32_t id : words.tokens) {
      if (id < 0 || id >= model.config().vocab_size)
        return Fail(ErrorCode::kInvalidArgument, "--tokens: {} is not a token (the vocabulary has {})", id,
                    model.config().vocab_size);
    }
    return words.tokens;
  }
  FATHOM_TRY(const auto tokenizer, LoadTokenizer(model.tokenizer_source()));
  if (!words.messages.empty()) {
    FATHOM_TRY(const std::string text, ReadInput(words.messages));
    FATHOM_TRY(const auto messages, ParseMessages(text, words.messages));
    const std::string_view jinja = TemplateOf(model.tokenizer_source());
    const ChatOptions options{.thinking = DefaultThinking(jinja), .default_system = DefaultSystemMessage(jinja)};
    return EncodeChat(DetectChatFormat(jinja, *tokenizer), *tokenizer, messages, options);
  }
  std::string text = words.text;
  if (!words.file.empty()) {
    FATHOM_TRY(text, ReadInput(words.file));
  }
  std::vector<int32_t> ids = EncodePrompt(*tokenizer, text);
  if (ids.empty()) return Fail(ErrorCode::kInvalidArgument, "the prompt is empty");
  return ids;
}

}  // namespace fathom
