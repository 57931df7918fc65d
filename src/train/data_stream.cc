#include "train/data_stream.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <new>
#include <thread>

#include "base/start_thread.h"
#include "train/document_source.h"
#include "train/packer.h"
#include "train/rng.h"
#include "train/state_json.h"

namespace fathom {
namespace {

constexpr int kStateVersion = 1;
constexpr size_t kPrefetched = 4;  // rounds that wait

uint64_t HashVocabulary(const Tokenizer& tokenizer) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    for (const char c : tokenizer.TokenBytes(id)) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3ull;
    hash = (hash ^ 0x100) * 0x100000001B3ull;
  }
  return hash;
}

/// The packer runs ahead on a thread of its own; what it makes waits with the state that goes with it.
class PrefetchingStream final : public DataStream {
 public:
  PrefetchingStream(Packer packer, nlohmann::json fingerprint, const DataStreamOptions& options)
      : packer_(std::move(packer)), fingerprint_(std::move(fingerprint)), options_(options) {
    state_ = packer_.State();
    stats_ = packer_.Stats();
  }
  ~PrefetchingStream() override { Stop(); }

  Result<Batch> Next() override {
    if (failed_) return std::unexpected(*failed_);
    if (!worker_.joinable()) {
      FATHOM_CHECK_OK(Start());
    }
    std::unique_lock lock(mutex_);
    filled_.wait(lock, [&] { return !queue_.empty(); });
    Result<Round> round = std::move(queue_.front());
    queue_.pop_front();
    taken_.notify_one();
    lock.unlock();
    if (!round) {
      failed_ = round.error();
      return std::unexpected(*failed_);
    }
    state_ = std::move(round->state);
    stats_ = std::move(round->stats);
    ++rounds_;
    return std::move(round->batch);
  }

  nlohmann::json State() const override {
    return {{"version", kStateVersion},
            {"stream", fingerprint_},
            {"batches", rounds_ * options_.ranks},
            {"packer", state_}};
  }

  Status Restore(const nlohmann::json& state) override {
    Stop();
    FATHOM_TRY(const int64_t version, StateCount(state, "version"));
    if (version != kStateVersion) {
      return Fail(ErrorCode::kCorrupt, "data state: version {}; this program writes {}", version, kStateVersion);
    }
    const auto stream = state.find("stream");
    if (stream == state.end() || *stream != fingerprint_) {
      std::string what = "its description is missing";
      if (stream != state.end() && stream->is_object()) {
        what = "the sources";
        for (const auto& [key, value] : fingerprint_.items()) {
          if (!stream->contains(key) || (*stream)[key] != value) {
            what = key;
            break;
          }
        }
      }
      return Fail(ErrorCode::kCorrupt, "data state: it is of another stream ({} differs); was the recipe, the tokenizer "
                                       "or a file changed since the checkpoint?", what);
    }
    FATHOM_TRY(const int64_t batches, StateCount(state, "batches"));
    if (!state.contains("packer")) return Fail(ErrorCode::kCorrupt, "data state: \"packer\" is missing");
    if (const Status restored = packer_.Restore(state["packer"]); !restored) {
      failed_ = restored.error();  // it may stand anywhere now
      return restored;
    }
    rounds_ = batches / options_.ranks;
    state_ = packer_.State();
    stats_ = packer_.Stats();
    failed_.reset();
    return {};
  }

  std::vector<SourceStats> Stats() const override { return stats_; }

 private:
  struct Round {
    Batch batch;
    nlohmann::json state;
    std::vector<SourceStats> stats;
  };

  /// One batch for every rank, of which this rank keeps its own; so all ranks stand at the same place after each.
  Result<Round> Produce() {
    Round round;
    for (int rank = 0; rank < options_.ranks; ++rank) {
      FATHOM_TRY(Batch batch, packer_.Next());
      if (rank == options_.rank) round.batch = std::move(batch);
    }
    round.state = packer_.State();
    round.stats = packer_.Stats();
    return round;
  }

  /// An exception must not leave the thread.
  Result<Round> ProduceOrFail() {
    try {
      return Produce();
    } catch (const std::bad_alloc&) {
      return Fail(ErrorCode::kResource, "out of memory while reading training data");
    }
  }

  Status Start() {
    stop_ = false;
    FATHOM_TRY(worker_, StartThread([this] {
      while (true) {
        Result<Round> round = ProduceOrFail();
        const bool failed = !round.has_value();
        std::unique_lock lock(mutex_);
        taken_.wait(lock, [&] { return stop_ || queue_.size() < kPrefetched; });
        if (stop_) return;
        queue_.push_back(std::move(round));
        filled_.notify_one();
        if (failed) return;
      }
    }));
    return {};
  }

  /// Ends the thread. The packer stands ahead of what was given out then, so that only Restore() or the end may follow.
  void Stop() {
    if (!worker_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    taken_.notify_all();
    worker_.join();
    queue_.clear();
  }

  Packer packer_;  // the worker's while it runs
  nlohmann::json fingerprint_;
  DataStreamOptions options_;
  nlohmann::json state_;  // after the last batch given out
  std::vector<SourceStats> stats_;
  int64_t rounds_ = 0;
  std::optional<Error> failed_;

  std::mutex mutex_;
  std::condition_variable filled_, taken_;
  std::deque<Result<Round>> queue_;
  bool stop_ = false;
  std::thread worker_;
};

Result<std::unique_ptr<DocumentSource>> OpenSource(const DataSpec& spec, const Tokenizer& tokenizer,
                                                   const SourceOptions& options) {
  switch (spec.kind) {
    case DataSpec::Kind::kText: return OpenTextSource(Env::Default(), spec, tokenizer, options);
    case DataSpec::Kind::kChat: return OpenChatSource(Env::Default(), spec, tokenizer, options);
    case DataSpec::Kind::kTasks: return OpenTaskSource(spec, tokenizer, options);
  }
  return Fail(ErrorCode::kInternal, "no such kind of source");
}

}  // namespace

Result<std::unique_ptr<DataStream>> DataStream::Open(const std::vector<DataSpec>& sources, const Tokenizer& tokenizer,
                                                     const DataStreamOptions& options) {
  if (sources.empty()) return Fail(ErrorCode::kInvalidArgument, "no data sources");
  if (options.batch_tokens < 8 || options.batch_tokens > int64_t{1} << 30 || options.sequence_length < 8 ||
      options.sequence_length > options.batch_tokens || options.ranks < 1 || options.rank < 0 ||
      options.rank >= options.ranks) {
    return Fail(ErrorCode::kInvalidArgument, "a stream of {} tokens a batch, {} a sequence, rank {} of {} is not possible",
                options.batch_tokens, options.sequence_length, options.rank, options.ranks);
  }
  std::vector<Packer::Source> opened;
  for (size_t i = 0; i < sources.size(); ++i) {
    if (!(sources[i].weight > 0)) return Fail(ErrorCode::kInvalidArgument, "data source {}: weight must be positive", i);
    FATHOM_TRY(auto documents, OpenSource(sources[i], tokenizer,
                                          {.sequence_length = options.sequence_length,
                                           .seed = HashNumbers({options.seed, i})}));
    opened.push_back({std::move(documents), sources[i].weight});
  }
  std::vector<uint16_t> token_bytes(static_cast<size_t>(tokenizer.vocab_size()));
  for (TokenId id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsControl(id)) continue;
    token_bytes[static_cast<size_t>(id)] =
        static_cast<uint16_t>(std::min<size_t>(tokenizer.TokenBytes(id).size(), UINT16_MAX));
  }
  Packer packer(std::move(opened), options.batch_tokens, std::move(token_bytes), tokenizer.bos_id());
  nlohmann::json fingerprint = {{"batch_tokens", options.batch_tokens},
                                {"sequence_length", options.sequence_length},
                                {"seed", options.seed},
                                {"tokenizer", fmt::format("{:016x}", HashVocabulary(tokenizer))},
                                {"sources", packer.Fingerprint()}};
  return std::make_unique<PrefetchingStream>(std::move(packer), std::move(fingerprint), options);
}

}  // namespace fathom
