// A service that follows a script instead of a model: words, delays, errors, a client's cancellation noticed. With a byte
// tokenizer (one token a byte, ChatML marks) and an engine without weights.
//
// Thread-safe. Callbacks run on the fake's own thread, or on the test's by Step().
#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/thread_pool.h"
#include "engine/batch_generator.h"
#include "engine/service.h"

namespace fathom {

/// 256 bytes, then <|im_start|>, <|im_end|>, <bos>, DeepSeek's marks and </think>.
class ByteTokenizerForTest : public Tokenizer {
 public:
  static constexpr TokenId kEnd = 257;
  static constexpr std::string_view kMarks[] = {"<|im_start|>", "<|im_end|>", "<bos>", "<｜User｜>", "<｜Assistant｜>",
                                                "<think>", "</think>", "<｜begin▁of▁sentence｜>",
                                                "<｜end▁of▁sentence｜>"};
  using Tokenizer::Encode;
  void Encode(std::string_view text, TextTrust trust, std::vector<TokenId>& out) const override {
    for (size_t i = 0; i < text.size();) {
      TokenId mark = -1;
      for (size_t m = 0; trust == TextTrust::kTrusted && m < std::size(kMarks); ++m) {
        if (text.substr(i).starts_with(kMarks[m])) mark = static_cast<TokenId>(256 + m);
      }
      out.push_back(mark >= 0 ? mark : static_cast<unsigned char>(text[i]));
      i += mark >= 0 ? kMarks[mark - 256].size() : 1;
    }
  }
  std::string_view TokenBytes(TokenId id) const override {
    static const std::string kBytes = [] {
      std::string all;
      for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
      return all;
    }();
    if (id < 0 || id >= vocab_size()) return {};
    return id < 256 ? std::string_view(kBytes).substr(static_cast<size_t>(id), 1) : kMarks[id - 256];
  }
  bool IsControl(TokenId id) const override { return id >= 256; }
  bool IsEndOfGeneration(TokenId id) const override { return id == kEnd || id == 264; }
  TokenId FindToken(std::string_view text) const override {
    if (text.size() == 1) return static_cast<unsigned char>(text.front());
    for (size_t m = 0; m < std::size(kMarks); ++m) {
      if (kMarks[m] == text) return static_cast<TokenId>(256 + m);
    }
    return -1;
  }
  int32_t vocab_size() const override { return 256 + static_cast<int32_t>(std::size(kMarks)); }
  TokenId bos_id() const override { return 258; }
  TokenId eos_id() const override { return kEnd; }
  bool add_bos() const override { return false; }
};

class EngineForServerTest : public Engine {
 public:
  EngineForServerTest() { config_.vocab_size = tokenizer_.vocab_size(); }
  Result<std::unique_ptr<Session>> NewSession() override { return Fail(ErrorCode::kUnsupported, "none here"); }
  Result<std::unique_ptr<BatchGenerator>> NewBatchGenerator(const BatchOptions&) override {
    return Fail(ErrorCode::kUnsupported, "none here");
  }
  const ModelFile& model_file() const override { std::abort(); }
  const ModelConfig& config() const override { return config_; }
  const Tokenizer* tokenizer() const override { return has_tokenizer ? &tokenizer_ : nullptr; }
  const std::string& tokenizer_error() const override { return error_; }
  ChatFormat chat_format() const override { return format; }
  std::string default_system() const override { return {}; }
  bool default_thinking() const override { return thinks; }
  MemoryUse memory() const override { return MemoryUse{.kv_bytes_per_token = 100}; }
  int32_t context_length() const override { return context; }
  KvType kv_type() const override { return KvType::kBF16; }
  int threads() const override { return 1; }
  ThreadPool& pool() override { return pool_; }

  ChatFormat format = ChatFormat::kChatML;
  bool thinks = false, has_tokenizer = true;
  int32_t context = 100000;

 private:
  ByteTokenizerForTest tokenizer_;
  ModelConfig config_;
  std::string error_ = "there is none";
  ThreadPool pool_{1};
};

/// How a request goes.
struct ServiceScript {
  std::string reasoning, content = "ok";  // a token a byte
  FinishReason finish = FinishReason::kStop;
  double prefill_seconds = 0, token_seconds = 0;
  int progress_reports = 0;   // spread over the prefill
  int64_t cached_tokens = 0;
  bool hang = false;          // nothing comes until it is cancelled
  std::optional<SubmitError> refuse;  // by Submit
  std::optional<Error> fail;    // after the content
};

class FakeService : public Service {
 public:
  FakeService() : thread_([this] { Run(); }) {}
  ~FakeService() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  std::expected<RequestId, SubmitError> Submit(ServiceRequest request, ServiceCallbacks callbacks) override {
    const std::lock_guard lock(mutex_);
    if (draining_) return std::unexpected(SubmitError{Refusal::kDraining, "draining"});
    ServiceScript script = default_script;
    if (!scripts.empty()) {
      script = scripts.front();
      scripts.pop_front();
    }
    if (script.refuse) return std::unexpected(*script.refuse);
    requests.push_back(request);
    auto work = std::make_unique<Work>();
    work->id = next_id_++;
    work->request = std::move(request);
    work->callbacks = std::move(callbacks);
    work->script = std::move(script);
    work->next = Clock::now();
    const RequestId id = work->id;
    works_.push_back(std::move(work));
    wake_.notify_all();
    return id;
  }
  void Cancel(RequestId id) override {
    const std::lock_guard lock(mutex_);
    cancelled.insert(id);
    wake_.notify_all();
  }
  void Drain(double seconds) override {
    std::unique_lock lock(mutex_);
    draining_ = true;
    if (!done_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return works_.empty(); })) {
      for (const auto& work : works_) cancelled.insert(work->id);
      wake_.notify_all();
      done_.wait(lock, [&] { return works_.empty(); });
    }
  }
  ServiceStats stats() const override {
    const std::lock_guard lock(mutex_);
    ServiceStats stats;
    stats.running = static_cast<int32_t>(works_.size());
    stats.requests = static_cast<int64_t>(next_id_) - 1;
    return stats;
  }
  KvCache* cache() override { return kv_cache; }
  const Engine& engine() const override { return fake_engine; }

  size_t Running() const {
    const std::lock_guard lock(mutex_);
    return works_.size();
  }
  size_t Cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled.size();
  }
  std::vector<ServiceRequest> Requests() const {
    const std::lock_guard lock(mutex_);
    return requests;
  }
  void SetScript(ServiceScript script) {
    const std::lock_guard lock(mutex_);
    default_script = std::move(script);
  }

  EngineForServerTest fake_engine;
  KvCache* kv_cache = nullptr;
  // Under the lock once a server runs; use the functions above then.
  ServiceScript default_script;
  std::deque<ServiceScript> scripts;  // of the next requests, before the default
  std::vector<ServiceRequest> requests;
  std::set<RequestId> cancelled;

 private:
  using Clock = std::chrono::steady_clock;
  struct Work {
    RequestId id = 0;
    ServiceRequest request;
    ServiceCallbacks callbacks;
    ServiceScript script;
    Clock::time_point next;
    int reported = 0;
    bool prefilled = false;
    size_t said = 0;  // bytes of reasoning and content
    GenerationResult result;
  };

  void Run() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      auto soonest = Clock::now() + std::chrono::milliseconds(200);
      for (size_t i = 0; i < works_.size() && !stop_; ++i) {
        Work& work = *works_[i];
        const bool cancel = cancelled.contains(work.id);
        bool finished = false;
        if (cancel || (!work.script.hang && work.next <= Clock::now())) {
          // Callbacks run unlocked, as the real service's do.
          lock.unlock();
          for (int burst = 0; burst < 1000 && !finished && (cancel || work.next <= Clock::now()); ++burst) {
            finished = Advance(work, cancel);
          }
          lock.lock();
        }
        if (finished) {
          works_.erase(works_.begin() + static_cast<ptrdiff_t>(i--));
          done_.notify_all();
        } else if (!work.script.hang) {
          soonest = std::min(soonest, work.next);
        }
      }
      if (!stop_) wake_.wait_until(lock, soonest);
    }
  }

  /// True when it is done.
  bool Advance(Work& work, bool cancel) {
    const ServiceScript& script = work.script;
    const auto in = [](double seconds) {
      return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    };
    const auto total = static_cast<int64_t>(work.request.prompt.size());
    if (!cancel && !work.prefilled) {
      if (work.reported < script.progress_reports) {
        ++work.reported;
        const ServiceProgress progress{total, script.cached_tokens, total * work.reported / script.progress_reports};
        if (work.callbacks.on_progress) work.callbacks.on_progress(progress);
        work.next = in(script.prefill_seconds / script.progress_reports);
        return false;
      }
      work.prefilled = true;
      if (script.progress_reports == 0 && script.prefill_seconds > 0) {
        work.next = in(script.prefill_seconds);
        return false;
      }
    }
    const std::string all = script.reasoning + script.content;
    const bool at_limit = work.request.params.max_tokens >= 0 &&
                          static_cast<int64_t>(work.said) >= work.request.params.max_tokens;
    if (!cancel && !at_limit && work.said < all.size()) {
      ServiceToken token;
      const std::string piece(1, all[work.said]);
      token.emission.token = static_cast<unsigned char>(piece[0]);
      const bool reasoning = work.said < script.reasoning.size();
      (reasoning ? token.emission.reasoning : token.emission.content) = piece;
      (reasoning ? work.result.reasoning : work.result.content) += piece;
      work.result.tokens.push_back(token.emission.token);
      if (work.request.logprobs >= 0) {
        token.drawn = TokenLogprob{token.emission.token, -0.5f};
        for (int32_t k = 0; k < work.request.logprobs; ++k) {
          token.top.push_back({token.emission.token + k, -0.5f - static_cast<float>(k)});
        }
      }
      ++work.said;
      if (work.callbacks.on_token) work.callbacks.on_token(token);
      work.next = in(script.token_seconds);
      return false;
    }
    if (!cancel && script.fail) {
      work.callbacks.on_done(std::unexpected(*script.fail));
      return true;
    }
    ServiceResult result;
    work.result.finish_reason = cancel ? FinishReason::kCancelled : at_limit ? FinishReason::kLength : script.finish;
    if (work.result.finish_reason == FinishReason::kStop) {
      work.result.tokens.push_back(ByteTokenizerForTest::kEnd);
    }
    work.result.timings.cached_tokens = script.cached_tokens;
    work.result.timings.prompt_tokens = total - script.cached_tokens;
    work.result.timings.generated_tokens = static_cast<int64_t>(work.result.tokens.size());
    result.reasoning_tokens = static_cast<int64_t>(work.result.reasoning.size());
    result.timings.cached_memory_tokens = script.cached_tokens;
    result.timings.queue_seconds = 0.001;
    result.cache_reason = "scripted";
    result.generation = std::move(work.result);
    work.callbacks.on_done(std::move(result));
    return true;
  }

  mutable std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::unique_ptr<Work>> works_;
  RequestId next_id_ = 1;
  bool stop_ = false, draining_ = false;
  std::thread thread_;
};

}  // namespace fathom
