#include "engine/engine.h"

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "base/thread_pool.h"
#include "engine/batch_impl.h"
#include "engine/expert_memory.h"
#include "engine/fingerprint.h"
#include "engine/service_impl.h"
#include "engine/session.h"
#include "engine/tokenizer_loader.h"
#include "engine/warm_weights.h"
#include "io/env.h"
#include "model/model.h"

namespace fathom {
namespace {

// Without a wish from the user a session holds at most this much, whatever the model could: memory should not
// surprise.
constexpr int32_t kDefaultContext = 32768;

// KV memory that a service has ready: a prompt as long as may be, but no great part of what it was given.
int64_t ReadyBytes(const KvPool& pool, int32_t context_length) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const int64_t prompt = context_length * pool.layout().bytes_per_token();
  return std::min({prompt, kMost, pool.max_bytes() > 0 ? pool.max_bytes() / 4 : kMost});
}

DType KvDType(KvType type) {
  switch (type) {
    case KvType::kF32: return DType::kF32;
    case KvType::kF16: return DType::kF16;
    case KvType::kFp8: return DType::kF8_E4M3;
    case KvType::kInt8: return DType::kI8;
    default: return DType::kBF16;
  }
}

class EngineImpl final : public Engine {
 public:
  static Result<std::unique_ptr<Engine>> Load(const std::string& path, const EngineOptions& options);

  Result<std::unique_ptr<Session>> NewSession() override {
    return std::make_unique<SessionImpl>(*model_, *kv_pool_, compute_, tokenizer_.get(), context_length_,
                                         [this] { return PrefillRows(options_.prefill_chunk); },
                                         options_.speculation, options_.forced_draft, mtp_pool_.get());
  }
  Result<std::unique_ptr<BatchGenerator>> NewBatchGenerator(const BatchOptions& options) override {
    FATHOM_CHECK_OK(BatchImpl::Check(options));
    return std::make_unique<BatchImpl>(*model_, *kv_pool_, compute_, tokenizer_.get(), context_length_, options);
  }
  Result<std::unique_ptr<Service>> NewService(const ServiceOptions& options) override;
  const ModelFile& model_file() const override { return *file_; }
  const ModelConfig& config() const override { return file_->config(); }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  const std::string& tokenizer_error() const override { return tokenizer_error_; }
  ChatFormat chat_format() const override { return chat_format_; }
  std::string default_system() const override { return default_system_; }
  bool default_thinking() const override { return default_thinking_; }
  int32_t context_length() const override { return context_length_; }
  KvType kv_type() const override { return kv_type_; }
  int threads() const override { return pool_->size(); }
  ThreadPool& pool() override { return *pool_; }
  void UseProfile(Profile* profile) override {
    std::lock_guard lock(compute_);
    model_->UseProfile(profile);
  }
  std::optional<ExpertStoreStats> expert_stats() const override { return experts_->stats(); }
  MemoryUse memory() const override {
    return {.weights_mapped = file_->tensor_bytes(),
            .weights_derived = model_->weights().derived_bytes,
            .kv_bytes_per_token = kv_pool_->layout().bytes_per_token(),
            .kv_allocated = kv_pool_->used_bytes() + (mtp_pool_ ? mtp_pool_->used_bytes() : 0),
            .scratch = model_->scratch_bytes()};
  }

 private:
  /// Tokens a prefill step takes together where `base` would do if nothing were streamed.
  int64_t PrefillRows(int64_t base) const {
    const bool chosen = options_.streamed_prefill_chunk > 0 && experts_->streams();
    return chosen ? options_.streamed_prefill_chunk : experts_->PrefillRows(base);
  }

  EngineOptions options_;
  std::unique_ptr<ModelFile> file_;
  const std::shared_ptr<std::atomic<int>> urgent_reads_ = std::make_shared<std::atomic<int>>(0);
  std::jthread warming_;  // reads file_'s mapping: destroyed before it
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ExpertMemory> experts_;
  std::unique_ptr<KvPool> kv_pool_;
  std::unique_ptr<KvPool> mtp_pool_;  // nullptr: the MTP layer is not used
  std::mutex compute_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::string tokenizer_error_;
  ChatFormat chat_format_ = ChatFormat::kPlain;
  std::string default_system_;
  bool default_thinking_ = false;
  int32_t context_length_ = 0;
  KvType kv_type_ = KvType::kBF16;
};

// The Jinja source that names the chat format: GGUF carries it, Hugging Face keeps it in tokenizer_config.json.
std::string_view ChatTemplate(const TokenizerSource& source) {
  return !source.chat_template.empty() ? std::string_view(source.chat_template)
                                       : std::string_view(source.tokenizer_config_json);
}

Result<std::unique_ptr<Engine>> EngineImpl::Load(const std::string& path, const EngineOptions& options) {
  const auto report = [&](std::string_view what, double share) {
    if (options.progress) options.progress(what, share);
  };
  if (options.threads < 0 || options.threads > 1024)
    return Fail(ErrorCode::kInvalidArgument, "threads is {}, it must lie in [0, 1024]", options.threads);
  if (options.prefill_chunk < 1 || options.prefill_chunk > 65536)
    return Fail(ErrorCode::kInvalidArgument, "prefill_chunk is {}, it must lie in [1, 65536]", options.prefill_chunk);
  if (options.streamed_prefill_chunk < 0 || options.streamed_prefill_chunk > 65536) {
    return Fail(ErrorCode::kInvalidArgument, "streamed_prefill_chunk is {}, it must lie in [0, 65536]",
                options.streamed_prefill_chunk);
  }
  auto engine = std::make_unique<EngineImpl>();
  engine->options_ = options;
  report("opening", 0);
  FATHOM_TRY(engine->file_, ModelFile::Open(path));
  engine->pool_ = std::make_unique<ThreadPool>(options.threads);
  report("mapping weights", 0.2);
  auto model = Model::Load(*engine->file_, *engine->pool_);
  if (!model) return Prefix(model.error(), path);
  engine->model_ = std::move(*model);
  auto experts = ExpertMemory::Create(*engine->file_, Env::Default(), options.experts, *engine->model_,
                                      engine->pool_->size());
  if (!experts) return Prefix(experts.error(), path);
  engine->experts_ = std::move(*experts);
  engine->warming_ = WarmWeights(*engine->file_, engine->urgent_reads_, !engine->experts_->streams());

  const ModelConfig& config = engine->file_->config();
  const int32_t trained = config.max_position_embeddings > 0 ? config.max_position_embeddings : kDefaultContext;
  if (options.context_length < 0)
    return Fail(ErrorCode::kInvalidArgument, "context_length is {}", options.context_length);
  engine->context_length_ = options.context_length > 0 ? options.context_length : std::min(trained, kDefaultContext);
  if (engine->context_length_ > trained) {
    spdlog::warn("a context of {} tokens is more than the {} that this model was trained for", engine->context_length_,
                 trained);
  }
  engine->kv_type_ = options.kv_type;
  if (engine->kv_type_ == KvType::kAuto) {
    const bool f32 = engine->model_->weights().layers.front().o.dtype == DType::kF32;
    engine->kv_type_ = f32 ? KvType::kF32 : KvType::kBF16;
  }
  engine->kv_pool_ = std::make_unique<KvPool>(engine->model_->kv_layout(KvDType(engine->kv_type_)));

  if (options.speculation == SpeculationMode::kMtp || options.speculation == SpeculationMode::kAuto) {
    const Status loaded = engine->model_->LoadMtp(*engine->file_);
    if (!loaded && (options.speculation == SpeculationMode::kMtp || loaded.error().code != ErrorCode::kNotFound)) {
      return Prefix(loaded.error(), path);
    }
    if (loaded) {
      engine->mtp_pool_ = std::make_unique<KvPool>(engine->model_->mtp_kv_layout(engine->kv_pool_->layout().dtype));
    }
  }

  report("reading the tokenizer", 0.6);
  auto tokenizer = LoadTokenizer(engine->file_->tokenizer_source());
  if (tokenizer) {
    engine->tokenizer_ = std::move(*tokenizer);
    const std::string_view jinja = ChatTemplate(engine->file_->tokenizer_source());
    engine->chat_format_ = DetectChatFormat(jinja, *engine->tokenizer_);
    engine->default_system_ = DefaultSystemMessage(jinja);
    engine->default_thinking_ = DefaultThinking(jinja);
  } else {
    engine->tokenizer_error_ = tokenizer.error().message;
  }
  report("ready", 1);
  return engine;
}

Result<std::unique_ptr<Service>> EngineImpl::NewService(const ServiceOptions& options) {
  FATHOM_CHECK_OK(ServiceImpl::Check(options));
  ServiceImpl::Parts parts{.engine = *this,
                           .model = *model_,
                           .compute = compute_,
                           .tokenizer = tokenizer_.get(),
                           .context_length = context_length_,
                           .speculation = options_.speculation,
                           .forced_draft = options_.forced_draft,
                           .mtp_pool = mtp_pool_.get(),
                           .prefill_rows = [this](int64_t base) { return PrefillRows(base); },
                           .pool = std::make_unique<KvPool>(kv_pool_->layout(), options.cache.memory_bytes),
                           .urgent_reads = urgent_reads_};
  if (options.cache.enabled) {
    const KvSpace space = SpaceOf(*file_, kv_pool_->layout());
    CacheOptions cache = options.cache;
    cache.logits_values = model_->config().vocab_size;
    FATHOM_TRY(parts.cache, options.make_cache
                                ? options.make_cache(space, *parts.pool)
                                : KvCache::Create(Env::Default(), space, *parts.pool, cache));
    parts.pool->KeepReady(ReadyBytes(*parts.pool, context_length_));
  }
  return std::make_unique<ServiceImpl>(std::move(parts), options);
}

}  // namespace

Result<std::unique_ptr<Service>> Engine::NewService(const ServiceOptions&) {
  return Fail(ErrorCode::kUnsupported, "this engine cannot serve many requests");
}

Result<std::unique_ptr<Engine>> Engine::Load(const std::string& path, const EngineOptions& options) {
  return EngineImpl::Load(path, options);
}

std::string_view FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kContext: return "context";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "unknown";
}

std::vector<TokenId> EncodePrompt(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<TokenId> ids;
  if (tokenizer.add_bos() && tokenizer.bos_id() >= 0) ids.push_back(tokenizer.bos_id());
  tokenizer.Encode(text, TextTrust::kUser, ids);
  return ids;
}

}  // namespace fathom
