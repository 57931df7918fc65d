// An engine without weights: a byte tokenizer with ChatML marks, and a session that answers from a script. For tests of
// everything around the model.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "engine/batch_generator.h"
#include "engine/engine.h"

namespace fathom {

/// 256 bytes, then <|im_start|>, <|im_end|>, <bos>.
class FakeTokenizer : public Tokenizer {
 public:
  static constexpr TokenId kImStart = 256, kImEnd = 257, kBos = 258;

  using Tokenizer::Encode;
  void Encode(std::string_view text, TextTrust trust, std::vector<TokenId>& out) const override {
    while (!text.empty()) {
      TokenId mark = -1;
      if (trust == TextTrust::kTrusted) {
        for (TokenId id = 256; id < 259; ++id) {
          if (text.starts_with(TokenBytes(id))) mark = id;
        }
      }
      if (mark >= 0) {
        out.push_back(mark);
        text.remove_prefix(TokenBytes(mark).size());
      } else {
        out.push_back(static_cast<unsigned char>(text.front()));
        text.remove_prefix(1);
      }
    }
  }
  std::string_view TokenBytes(TokenId id) const override {
    static const std::string bytes = [] {
      std::string all;
      for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
      return all;
    }();
    static constexpr std::string_view kMarks[] = {"<|im_start|>", "<|im_end|>", "<bos>"};
    if (id < 0 || id > 258) return {};
    return id < 256 ? std::string_view(bytes).substr(static_cast<size_t>(id), 1) : kMarks[id - 256];
  }
  bool IsControl(TokenId id) const override { return id >= 256; }
  bool IsEndOfGeneration(TokenId id) const override { return id == kImEnd; }
  TokenId FindToken(std::string_view text) const override {
    if (text.size() == 1) return static_cast<unsigned char>(text.front());
    for (TokenId id = 256; id < 259; ++id) {
      if (TokenBytes(id) == text) return id;
    }
    return -1;
  }
  int32_t vocab_size() const override { return 259; }
  TokenId bos_id() const override { return kBos; }
  TokenId eos_id() const override { return kImEnd; }
  bool add_bos() const override { return false; }
};

class FakeModelFile : public ModelFile {
 public:
  ModelFormat format() const override { return ModelFormat::kGguf; }
  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer_source() const override { return source_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override {
    for (const TensorInfo& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  std::span<const std::string> files() const override { return files_; }
  std::vector<std::pair<std::string, std::string>> Metadata() const override { return {}; }

  ModelConfig config_;
  TokenizerSource source_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::string> files_ = {"fake.gguf"};
};

/// What the session answers next, and what it was asked.
struct FakeScript {
  struct Answer {
    std::string reasoning, content;
    FinishReason finish = FinishReason::kStop;
  };
  std::deque<Answer> answers;                  // empty: "ok"
  std::vector<std::vector<TokenId>> prompts;   // of Generate
  std::vector<GenerationParams> params;
  std::function<void()> on_token;              // before each emission
  std::function<void(std::span<const TokenId>)> on_eval;
  // Logits after any token; [vocab], default: all equal.
  std::function<std::vector<float>(TokenId last)> logits;
};

class FakeSession : public Session {
 public:
  FakeSession(FakeScript& script, int32_t context, int32_t vocab) : script_(script), context_(context), vocab_(vocab) {}
  std::span<const TokenId> tokens() const override { return tokens_; }
  int32_t context_length() const override { return context_; }
  void Truncate(int64_t count) override {
    if (count < static_cast<int64_t>(tokens_.size())) tokens_.resize(static_cast<size_t>(count));
  }
  Status Eval(std::span<const TokenId> tokens, const PrefillFn& progress) override {
    if (tokens_.size() + tokens.size() > static_cast<size_t>(context_))
      return Fail(ErrorCode::kResource, "context full");
    if (progress && !progress(static_cast<int64_t>(tokens.size()), static_cast<int64_t>(tokens.size()))) {
      return Fail(ErrorCode::kCancelled, "stopped");
    }
    if (script_.on_eval) script_.on_eval(tokens);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    if (!tokens_.empty()) logits_ = LogitsAfter(tokens_.back());
    return {};
  }
  Status EvalAll(std::span<const TokenId> tokens, std::vector<float>& out) override {
    out.clear();
    for (const TokenId token : tokens) {
      const auto row = LogitsAfter(token);
      out.insert(out.end(), row.begin(), row.end());
    }
    return Eval(tokens, {});
  }
  std::span<const float> logits() const override { return logits_; }

  Result<GenerationResult> Generate(std::span<const TokenId> prompt, const GenerationParams& params, const EmitFn& emit,
                                    const PrefillFn& progress) override {
    script_.prompts.emplace_back(prompt.begin(), prompt.end());
    script_.params.push_back(params);
    if (static_cast<int32_t>(prompt.size()) >= context_) {
      return Fail(ErrorCode::kResource, "the prompt has {} tokens and the context {}", prompt.size(), context_);
    }
    GenerationResult result;
    result.timings.prompt_tokens = static_cast<int64_t>(prompt.size());
    result.timings.prompt_seconds = 0.5;
    tokens_.assign(prompt.begin(), prompt.end());
    if (progress && !progress(static_cast<int64_t>(prompt.size()), static_cast<int64_t>(prompt.size()))) {
      return Fail(ErrorCode::kCancelled, "stopped");
    }
    FakeScript::Answer answer{"", "ok", FinishReason::kStop};
    if (!script_.answers.empty()) {
      answer = script_.answers.front();
      script_.answers.pop_front();
    }
    result.finish_reason = answer.finish;
    const auto send = [&](const std::string& text, bool thinking) {
      for (const char c : text) {
        if (script_.on_token) script_.on_token();
        Emission emission;
        emission.token = static_cast<unsigned char>(c);
        (thinking ? emission.reasoning : emission.content) = std::string(1, c);
        result.tokens.push_back(emission.token);
        (thinking ? result.reasoning : result.content) += c;
        if (!emit(emission)) return false;
      }
      return true;
    };
    if (!send(answer.reasoning, true) || !send(answer.content, false)) result.finish_reason = FinishReason::kCancelled;
    tokens_.insert(tokens_.end(), result.tokens.begin(), result.tokens.end());
    result.timings.generated_tokens = static_cast<int64_t>(result.tokens.size());
    result.timings.decode_seconds = 1;
    result.seed = params.sampling.seed;
    return result;
  }

 private:
  std::vector<float> LogitsAfter(TokenId last) const {
    return script_.logits ? script_.logits(last) : std::vector<float>(static_cast<size_t>(vocab_), 0.0f);
  }
  FakeScript& script_;
  int32_t context_, vocab_;
  std::vector<TokenId> tokens_;
  std::vector<float> logits_;
};

class FakeEngine : public Engine {
 public:
  FakeEngine() { file_.config_.vocab_size = 259; }
  Result<std::unique_ptr<Session>> NewSession() override {
    return std::make_unique<FakeSession>(script, context, file_.config_.vocab_size);
  }
  Result<std::unique_ptr<BatchGenerator>> NewBatchGenerator(const BatchOptions&) override {
    return Fail(ErrorCode::kUnsupported, "the fake engine answers one prompt at a time");
  }
  const ModelFile& model_file() const override { return file_; }
  const ModelConfig& config() const override { return file_.config_; }
  const Tokenizer* tokenizer() const override { return &tokenizer_; }
  const std::string& tokenizer_error() const override { return error_; }
  ChatFormat chat_format() const override { return format; }
  std::string default_system() const override { return system; }
  bool default_thinking() const override { return false; }
  MemoryUse memory() const override { return MemoryUse{.weights_mapped = 1 << 20, .kv_bytes_per_token = 100}; }
  int32_t context_length() const override { return context; }
  KvType kv_type() const override { return KvType::kF32; }
  int threads() const override { return 1; }
  ThreadPool& pool() override { return pool_; }

  FakeScript script;
  int32_t context = 1000;
  ChatFormat format = ChatFormat::kChatML;
  std::string system;
  FakeModelFile file_;

 private:
  FakeTokenizer tokenizer_;
  std::string error_;
  ThreadPool pool_{1};
};

}  // namespace fathom
