// Conversations from files and problems made on the fly (document_source.h), both as chats.
#include <nlohmann/json.hpp>

#include "tasks/problem.h"
#include "train/block_source.h"
#include "train/chat_document.h"
#include "train/rng.h"
#include "train/state_json.h"

namespace fathom {
namespace {

class ChatSource final : public BlockSource {
 public:
  ChatSource(BlockReader reader, std::string name, const Tokenizer& tokenizer, int64_t sequence_length)
      : BlockSource(std::move(reader), std::move(name)), tokenizer_(tokenizer), sequence_length_(sequence_length) {}

 private:
  Status Cut(const Block& block, std::vector<Piece>& pieces) override {
    std::string reason;
    std::vector<ChatMessage> messages;
    if (!Parse(block.text, messages, reason)) return Fail(ErrorCode::kCorrupt, "{}: {}", Where(block), reason);
    Result<std::vector<Piece>> documents = EncodeTrainingChat(tokenizer_, messages);
    if (!documents) return Prefix(documents.error(), Where(block));
    bool left_out = documents->empty();
    for (Piece& piece : *documents) {
      if (piece.inputs() > sequence_length_) left_out = true;
      else pieces.push_back(std::move(piece));
    }
    if (left_out) LeaveOut();
    return {};
  }

  static bool Parse(std::string_view text, std::vector<ChatMessage>& out, std::string& reason) {
    const nlohmann::json line = nlohmann::json::parse(text, nullptr, false);
    if (line.is_discarded()) return reason = "not valid JSON", false;
    if (!line.is_object() || !line.contains("messages") || !line["messages"].is_array()) {
      return reason = "not an object with a list \"messages\"", false;
    }
    for (const auto& entry : line["messages"]) {
      const auto field = [&](const char* key) -> const std::string* {
        const auto it = entry.find(key);
        return it != entry.end() && it->is_string() ? it->template get_ptr<const std::string*>() : nullptr;
      };
      if (!entry.is_object()) return reason = "a message is not an object", false;
      const std::string* role = field("role");
      const std::string* content = field("content");
      if (role == nullptr || content == nullptr) {
        return reason = "a message without a string \"role\" and a string \"content\"", false;
      }
      ChatMessage message{.content = *content};
      if (*role == "system") message.role = Role::kSystem;
      else if (*role == "user") message.role = Role::kUser;
      else if (*role == "assistant") message.role = Role::kAssistant;
      else return reason = fmt::format("role \"{}\"; possible are system, user, assistant", role->substr(0, 40)), false;
      if (entry.contains("reasoning_content") && !entry["reasoning_content"].is_null()) {
        const std::string* reasoning = field("reasoning_content");
        if (reasoning == nullptr) return reason = "\"reasoning_content\" is not a string", false;
        message.reasoning_content = *reasoning;
      }
      out.push_back(std::move(message));
    }
    return true;
  }

  const Tokenizer& tokenizer_;
  int64_t sequence_length_;
};

class TaskSource final : public DocumentSource {
 public:
  TaskSource(TaskGenerator generator, const DataSpec& spec, const Tokenizer& tokenizer, int64_t sequence_length)
      : generator_(std::move(generator)), spec_(spec), tokenizer_(tokenizer), sequence_length_(sequence_length) {}

  Result<Piece> Next() override {
    constexpr int kMaxTries = 10000;
    for (int tries = 0; tries < kMaxTries; ++tries) {
      const uint64_t draw = HashNumbers({spec_.seed, generator_.position(), 4});
      Problem problem = generator_.Next();
      if (UnitInterval(draw) < spec_.no_thinking_share) problem.thinking.clear();
      FATHOM_TRY(std::vector<Piece> pieces,
                 EncodeTrainingChat(tokenizer_, {{.role = Role::kUser, .content = problem.question},
                                                 {.role = Role::kAssistant,
                                                  .content = problem.answer,
                                                  .reasoning_content = problem.thinking}}));
      if (pieces.front().inputs() <= sequence_length_) return std::move(pieces.front());
      ++left_out_;
    }
    return Fail(ErrorCode::kInvalidArgument, "{}: no problem fits a sequence of {} tokens", name(), sequence_length_);
  }

  nlohmann::json State() const override {
    return {{"position", generator_.position()}, {"left_out", left_out_}};
  }
  Status Restore(const nlohmann::json& state) override {
    FATHOM_TRY(const int64_t position, StateCount(state, "position"));
    FATHOM_TRY(left_out_, StateCount(state, "left_out"));
    generator_.Seek(static_cast<uint64_t>(position));
    return {};
  }
  nlohmann::json Fingerprint() const override {
    return {{"tasks", spec_.families},
            {"seed", spec_.seed},
            {"held_out", spec_.held_out},
            {"no_thinking_share", spec_.no_thinking_share}};
  }
  std::string name() const override { return NameOfSource(spec_); }
  int64_t left_out() const override { return left_out_; }
  double epochs() const override { return 0; }

 private:
  TaskGenerator generator_;
  DataSpec spec_;
  const Tokenizer& tokenizer_;
  int64_t sequence_length_;
  int64_t left_out_ = 0;
};

}  // namespace

Result<std::unique_ptr<DocumentSource>> OpenChatSource(Env& env, const DataSpec& spec, const Tokenizer& tokenizer,
                                                       const SourceOptions& options) {
  FATHOM_TRY(BlockReader reader, BlockReader::Open(env, spec.paths,
                                                   {.seed = options.seed,
                                                    .held_out_share = spec.held_out_share,
                                                    .held_out = spec.held_out}));
  if (const std::string other = reader.FirstFileNot(ShardFormat::kJsonLines); !other.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "{}: chats are read from .jsonl files, plain or .xz", other);
  }
  // The marks are looked for now, not after an hour.
  FATHOM_TRY([[maybe_unused]] const auto tried, EncodeTrainingChat(tokenizer, {}));
  return std::make_unique<ChatSource>(std::move(reader), NameOfSource(spec), tokenizer, options.sequence_length);
}

Result<std::unique_ptr<DocumentSource>> OpenTaskSource(const DataSpec& spec, const Tokenizer& tokenizer,
                                                       const SourceOptions& options) {
  FATHOM_TRY(TaskGenerator generator,
             TaskGenerator::Create(spec.seed, spec.held_out ? Split::kHeldOut : Split::kTrain, spec.families));
  FATHOM_TRY([[maybe_unused]] const auto tried, EncodeTrainingChat(tokenizer, {}));
  return std::make_unique<TaskSource>(std::move(generator), spec, tokenizer, options.sequence_length);
}

}  // namespace fathom
