#include "engine/engine.h"

#include <algorithm>
#include <mutex>

#include "base/log.h"
#include "base/thread_pool.h"
#include "engine/batch_impl.h"
#include "engine/buffer_loan.h"
#include "engine/expert_memory.h"
#include "engine/fingerprint.h"
#include "engine/memory_setup.h"
#include "engine/memory_share.h"
#include "engine/service_impl.h"
#include "engine/session.h"
#include "engine/tokenizer_loader.h"
#include "engine/warm_weights.h"
#include "io/env.h"
#include "io/page_cache.h"
#include "model/memory_needs.h"
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
  bool unknown_chat_template() const override { return unknown_chat_template_; }
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
  std::optional<MemoryPlan> memory_plan() const override { return plan_; }
  int64_t page_cache_growth() const override {
    return plan_ ? std::max<int64_t>(0, CachedBytesOfFiles() - cached_before_) : 0;
  }
  double read_rate() const override { return resident_ != nullptr ? resident_->read_rate() : 0; }
  MemoryUse memory() const override {
    const auto experts = experts_->stats();
    return {.weights_mapped = resident_ != nullptr ? 0 : file_->tensor_bytes(),
            .weights_resident = resident_ != nullptr ? resident_->resident_bytes() : 0,
            .expert_slots = experts ? experts->slots * experts->slot_bytes : 0,
            .weights_derived = model_->weights().derived_bytes,
            .kv_bytes_per_token = kv_pool_->layout().bytes_per_token(),
            .kv_allocated = kv_pool_->used_bytes() + (mtp_pool_ ? mtp_pool_->used_bytes() : 0),
            .scratch = model_->scratch_bytes()};
  }

 private:
  /// Tokens a prefill step takes together where `base` would do if nothing were streamed.
  int64_t PrefillRows(int64_t base) const {
    const bool chosen = options_.streamed_prefill_chunk > 0 && experts_->streams();
    const int64_t rows = chosen ? options_.streamed_prefill_chunk : experts_->PrefillRows(base);
    return plan_ ? std::min<int64_t>(rows, plan_->rows) : rows;  // buffers for more were not promised
  }
  void ReadTokenizer();
  Status ChooseContext();
  /// The pool of a service that shares memory with experts, larger than it may be at the beginning. Errors: kResource.
  Status SharePool(ServiceImpl::Parts& parts);
  /// What will be taken beside experts when the context is full, without a promise; weights in the page cache count.
  int64_t BytesToCome() const;
  /// Plans what the promise allows, and reads what is to be resident.
  Status KeepPromise();
  void LendBuffers();
  int64_t CachedBytesOfFiles() const {
    int64_t bytes = 0;
    for (const std::string& path : file_->files()) bytes += CachedBytes(path).value_or(0);
    return bytes;
  }

  EngineOptions options_;
  std::unique_ptr<ModelFile> file_;
  const ResidentModel* resident_ = nullptr;  // file_, when it is one
  std::optional<MemoryPlan> plan_;
  int64_t cached_before_ = 0;  // of the files, in the page cache
  bool shares_ = false;        // a service's pool and experts share what the promise leaves them
  const std::shared_ptr<std::atomic<int>> urgent_reads_ = std::make_shared<std::atomic<int>>(0);
  std::jthread warming_;  // reads file_'s mapping: destroyed before it
  std::unique_ptr<ThreadPool> pool_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ExpertMemory> experts_;
  std::optional<BufferLoan> loan_;
  std::unique_ptr<KvPool> kv_pool_;
  std::unique_ptr<KvPool> mtp_pool_;  // nullptr: the MTP layer is not used
  std::mutex compute_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::string tokenizer_error_;
  ChatFormat chat_format_ = ChatFormat::kPlain;
  std::string default_system_;
  bool default_thinking_ = false, unknown_chat_template_ = false;
  int32_t context_length_ = 0;
  KvType kv_type_ = KvType::kBF16;
};

// The Jinja source that names the chat format: GGUF carries it, Hugging Face keeps it in tokenizer_config.json.
std::string_view ChatTemplate(const TokenizerSource& source) {
  return !source.chat_template.empty() ? std::string_view(source.chat_template)
                                       : std::string_view(source.tokenizer_config_json);
}

void EngineImpl::ReadTokenizer() {
  auto tokenizer = LoadTokenizer(file_->tokenizer_source());
  if (tokenizer) {
    tokenizer_ = std::move(*tokenizer);
    const std::string_view jinja = ChatTemplate(file_->tokenizer_source());
    chat_format_ = DetectChatFormat(jinja, *tokenizer_);
    // A tokenizer_config.json may well hold other things only.
    const bool has_template = !file_->tokenizer_source().chat_template.empty() ||
                              jinja.find("\"chat_template\"") != std::string_view::npos;
    unknown_chat_template_ = has_template && chat_format_ == ChatFormat::kPlain;
    default_system_ = DefaultSystemMessage(jinja);
    default_thinking_ = DefaultThinking(jinja);
  } else {
    tokenizer_error_ = tokenizer.error().message;
  }
}

Status EngineImpl::ChooseContext() {
  const ModelConfig& config = file_->config();
  const int32_t trained = config.max_position_embeddings > 0 ? config.max_position_embeddings : kDefaultContext;
  if (options_.context_length < 0)
    return Fail(ErrorCode::kInvalidArgument, "context_length is {}", options_.context_length);
  context_length_ = options_.context_length > 0 ? options_.context_length : std::min(trained, kDefaultContext);
  if (context_length_ > trained) {
    spdlog::warn("a context of {} tokens is more than the {} that this model was trained for", context_length_, trained);
  }
  kv_type_ = options_.kv_type;
  if (kv_type_ == KvType::kAuto) {
    const bool gguf = file_->format() == ModelFormat::kGguf;
    const TensorInfo* o = file_->Find(gguf ? "blk.0.attn_output.weight" : "model.layers.0.self_attn.o_proj.weight");
    kv_type_ = o != nullptr && o->dtype == DType::kF32 ? KvType::kF32 : KvType::kBF16;
  }
  return {};
}

int64_t EngineImpl::BytesToCome() const {
  const ModelConfig& config = file_->config();
  const int64_t weights = ResidentModel::BytesOf(*file_, {.experts = false});
  const int64_t keys = context_length_ * KvLayoutOf(config, KvDType(kv_type_)).bytes_per_token();
  const int64_t scratch = ScratchBytes(config, {.rows = options_.prefill_chunk, .context = context_length_, .threads = pool_->size()});
  return weights + keys + scratch + options_.experts.beside_bytes;
}

Status EngineImpl::KeepPromise() {
  FATHOM_CHECK_OK(ValidateConfig(file_->config()));
  const MemoryAsked asked{.kv = KvLayoutOf(file_->config(), KvDType(kv_type_)),
                          .context = options_.context_length,
                          .most_context = context_length_,
                          .threads = pool_->size()};
  FATHOM_TRY(plan_, PlanFor(*file_, options_, asked));
  cached_before_ = CachedBytesOfFiles();
  // Who said how much either is to have gets that.
  shares_ = plan_->slots > 0 && options_.promise.serving && options_.promise.kv_bytes < 0 && options_.experts.memory_bytes == 0;
  context_length_ = plan_->context;
  options_.prefill_chunk = std::min(options_.prefill_chunk, plan_->rows);
  options_.experts.memory_bytes = plan_->slots * plan_->slot_bytes;
  plan_->page_cache_outside = plan_->slots > 0 && options_.experts.io == ExpertIo::kBuffered;
  const auto progress = [&](int64_t done, int64_t total) {
    if (options_.progress) options_.progress("reading the weights", 0.3 + 0.6 * static_cast<double>(done) / static_cast<double>(total));
    return true;
  };
  const ResidentChoice choice{.experts = plan_->all_resident, .stall_limit = options_.stall_limit};
  FATHOM_TRY(auto resident, ResidentModel::Load(std::move(file_), *options_.env, choice, progress));
  if (!resident->direct()) {
    spdlog::warn("{}: this file system cannot read past the page cache, which fills beside the memory promised",
                 resident->files().front());
  }
  resident_ = resident.get();
  file_ = std::move(resident);
  return {};
}

void EngineImpl::LendBuffers() {
  loan_.emplace(BufferLoan::Parts{.experts = *experts_->store(),
                                  .release_buffers = [this] { model_->ReleaseScratch(); },
                                  .slots = plan_->slots,
                                  .lent = plan_->lent_slots,
                                  .patience = options_.stall_limit});
  model_->BeforePasses([this](int64_t rows) { return loan_->BeforePass(rows); });
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
  if (engine->options_.env == nullptr) engine->options_.env = &Env::Default();
  Env& env = *engine->options_.env;
  report("opening", 0);
  FATHOM_TRY(engine->file_, ModelFile::Open(path, env));
  FATHOM_TRY(engine->pool_, ThreadPool::Create(options.threads));
  report("reading the tokenizer", 0.1);
  engine->ReadTokenizer();
  FATHOM_CHECK_OK(engine->ChooseContext());
  if (options.promise.bytes > 0) {
    if (const Status kept = engine->KeepPromise(); !kept) return Prefix(kept.error(), path);
  } else {
    report("mapping weights", 0.3);
  }
  auto model = Model::Load(*engine->file_, *engine->pool_);
  if (!model) return Prefix(model.error(), path);
  engine->model_ = std::move(*model);
  auto experts = ExpertMemory::Create(*engine->file_, env, engine->options_, *engine->model_,
                                      {.threads = engine->pool_->size(),
                                       .promised = engine->plan_.has_value(),
                                       .lent = engine->plan_ ? engine->plan_->lent_slots : 0,
                                       .to_come = engine->plan_ ? 0 : engine->BytesToCome()});
  if (!experts) return Prefix(experts.error(), path);
  engine->experts_ = std::move(*experts);
  if (engine->plan_) {
    engine->plan_->hot_share = engine->experts_->HotShareOfSlots();
    if (engine->plan_->lent_slots > 0) engine->LendBuffers();
  } else {
    engine->model_->UseFileCheck([file = engine->file_.get()] { return file->CheckUnchanged(); });
    engine->warming_ = WarmWeights(*engine->file_, engine->urgent_reads_, !engine->experts_->streams());
  }
  engine->kv_pool_ = std::make_unique<KvPool>(engine->model_->kv_layout(KvDType(engine->kv_type_)),
                                              engine->plan_ ? engine->plan_->kv_bytes : 0);

  // Under a promise without it: the plan does not count the MTP layer, whose weights would be read through the page cache.
  const bool promised = options.promise.bytes > 0;
  if (promised && options.speculation == SpeculationMode::kMtp) {
    return Fail(ErrorCode::kInvalidArgument, "--speculate mtp does not go with --memory yet; 'lookup' does");
  }
  if (!promised && (options.speculation == SpeculationMode::kMtp || options.speculation == SpeculationMode::kAuto)) {
    const Status loaded = engine->model_->LoadMtp(*engine->file_);
    if (!loaded && (options.speculation == SpeculationMode::kMtp || loaded.error().code != ErrorCode::kNotFound)) {
      return Prefix(loaded.error(), path);
    }
    if (loaded) {
      engine->mtp_pool_ = std::make_unique<KvPool>(engine->model_->mtp_kv_layout(engine->kv_pool_->layout().dtype));
    }
  }
  FATHOM_CHECK_OK(engine->file_->CheckUnchanged());  // what was made of it while loading
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
  const bool shares = shares_ && options.cache.memory_bytes == plan_->kv_bytes;
  if (shares) {
    FATHOM_CHECK_OK(SharePool(parts));
  }
  if (options.cache.enabled) {
    FATHOM_TRY(const KvSpace space, SpaceOf(*file_, kv_pool_->layout()));
    CacheOptions cache = options.cache;
    cache.logits_values = model_->config().vocab_size;
    cache.register_memory = !shares;
    FATHOM_TRY(parts.cache, options.make_cache
                                ? options.make_cache(space, *parts.pool)
                                : KvCache::Create(Env::Default(), space, *parts.pool, cache));
    parts.pool->KeepReady(ReadyBytes(*parts.pool, context_length_));
  }
  if (shares) {
    ExpertStore& experts = *experts_->store();
    parts.share = std::make_unique<MemoryShare>(MemoryShare::Parts{
        .experts = experts,
        .pool = *parts.pool,
        .kv_begin = plan_->kv_bytes / parts.pool->layout().block_bytes() * parts.pool->layout().block_bytes(),
        .kv_least = (context_length_ / KvLayout::kBlockTokens + 2) * parts.pool->layout().block_bytes(),
        .least_slots = LeastSlots(experts.layout().geometry()),
        .cache = parts.cache ? std::function<CacheStats()>([cache = parts.cache.get()] { return cache->stats(); }) : nullptr});
  }
  auto service = std::make_unique<ServiceImpl>(std::move(parts), options);
  FATHOM_CHECK_OK(service->Start());
  return service;
}

Status EngineImpl::SharePool(ServiceImpl::Parts& parts) {
  ExpertStore& experts = *experts_->store();
  const int64_t slot = experts.layout().slot_bytes(), least = LeastSlots(experts.layout().geometry());
  const int64_t block = kv_pool_->layout().block_bytes(), begin = plan_->kv_bytes / block * block;
  const int64_t most = MemoryShare::MostKvBytes(begin, block, experts.slots(), least, slot);
  // What the larger pool takes beside its blocks comes from experts.
  const int64_t beside = KvOverhead(true, most) - KvOverhead(true, begin);
  const int64_t slots = std::max(least, experts.slots() - (beside + slot - 1) / slot);
  FATHOM_CHECK_OK(experts.Resize(slots));
  parts.pool = std::make_unique<KvPool>(kv_pool_->layout(), MemoryShare::MostKvBytes(begin, block, slots, least, slot));
  return {};
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
