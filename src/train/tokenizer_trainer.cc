#include "train/tokenizer_trainer.h"

#include <algorithm>
#include <atomic>
#include <queue>
#include <set>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/start_thread.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace fathom {
namespace {

constexpr const char* kFirstSpecial[] = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"};
constexpr const char* kLastSpecial[] = {"<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"};

/// The bytes in the order of the characters that GPT-2's alphabet writes them with, which is that of their ids.
std::vector<uint8_t> AlphabetOrder() {
  std::vector<std::pair<uint32_t, uint8_t>> order;
  for (int byte = 0; byte < 256; ++byte) {
    const std::string shown = BytesToByteLevel(std::string(1, static_cast<char>(byte)));
    order.emplace_back(DecodeUtf8(shown, 0).code_point, static_cast<uint8_t>(byte));
  }
  std::sort(order.begin(), order.end());
  std::vector<uint8_t> out;
  for (const auto& [shown, byte] : order) out.push_back(byte);
  return out;
}

using Pair = uint64_t;
Pair MakePair(int32_t left, int32_t right) {
  return static_cast<Pair>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

/// All words as sequences of token ids, and where each pair stands.
class Merger {
 public:
  Merger(const std::vector<std::pair<std::string_view, int64_t>>& words, const std::vector<int32_t>& id_of_byte) {
    size_t symbols = 0;
    for (const auto& [text, count] : words) symbols += text.size();
    symbols_.reserve(symbols);
    for (const auto& [text, count] : words) {
      words_.push_back({.begin = symbols_.size(), .length = static_cast<uint32_t>(text.size()), .count = count});
      for (const char c : text) symbols_.push_back(id_of_byte[static_cast<uint8_t>(c)]);
    }
    for (uint32_t w = 0; w < words_.size(); ++w) {
      const int32_t* s = symbols_.data() + words_[w].begin;
      for (uint32_t i = 0; i + 1 < words_[w].length; ++i) Count(MakePair(s[i], s[i + 1]), words_[w].count, w);
    }
    for (const auto& [pair, info] : pairs_) queue_.push({info.count, pair});
  }

  struct Best {
    int64_t count = 0;
    Pair pair = 0;
    bool operator<(const Best& other) const { return count != other.count ? count < other.count : pair > other.pair; }
  };

  /// The most frequent pair; count 0 when none is left.
  Best Next() {
    while (!queue_.empty()) {
      const Best best = queue_.top();
      queue_.pop();
      const auto it = pairs_.find(best.pair);
      if (it == pairs_.end() || it->second.count <= 0) continue;
      if (it->second.count == best.count) return best;
      if (it->second.count < best.count) queue_.push({it->second.count, best.pair});  // became rarer since
    }
    return {};
  }

  void Merge(Pair pair, int32_t merged) {
    const auto left = static_cast<int32_t>(pair >> 32), right = static_cast<int32_t>(pair & 0xFFFFFFFF);
    const std::vector<uint32_t> where = std::move(pairs_[pair].where);
    touched_.clear();
    for (const uint32_t w : where) {
      Word& word = words_[w];
      int32_t* s = symbols_.data() + word.begin;
      uint32_t out = 0;
      for (uint32_t i = 0; i < word.length; ++i) {
        if (i + 1 < word.length && s[i] == left && s[i + 1] == right) {
          if (out > 0) {
            Count(MakePair(s[out - 1], left), -word.count, w);
            Count(MakePair(s[out - 1], merged), word.count, w);
          }
          if (i + 2 < word.length) {
            Count(MakePair(right, s[i + 2]), -word.count, w);
            Count(MakePair(merged, s[i + 2]), word.count, w);
          }
          s[out++] = merged;
          ++i;
        } else {
          s[out++] = s[i];
        }
      }
      word.length = out;
    }
    pairs_.erase(pair);
    std::sort(touched_.begin(), touched_.end());
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    for (const Pair grown : touched_) {
      const auto it = pairs_.find(grown);
      if (it == pairs_.end()) continue;
      if (it->second.count > 0) queue_.push({it->second.count, grown});
      else pairs_.erase(it);
    }
  }

 private:
  struct Word {
    size_t begin;
    uint32_t length;
    int64_t count;
  };
  struct Info {
    int64_t count = 0;
    std::vector<uint32_t> where;  // words that have the pair, or had it
  };

  void Count(Pair pair, int64_t count, uint32_t word) {
    Info& info = pairs_[pair];
    info.count += count;
    if (count <= 0) return;
    if (info.where.empty() || info.where.back() != word) info.where.push_back(word);
    touched_.push_back(pair);
  }

  std::vector<int32_t> symbols_;
  std::vector<Word> words_;
  std::unordered_map<Pair, Info> pairs_;
  std::priority_queue<Best> queue_;
  std::vector<Pair> touched_;  // pairs that became more frequent in this merge
};

}  // namespace

Result<TokenizerTrainer> TokenizerTrainer::Create(TokenizerTrainOptions options) {
  std::set<std::string> names(std::begin(kFirstSpecial), std::end(kFirstSpecial));
  names.insert(std::begin(kLastSpecial), std::end(kLastSpecial));
  for (const std::string& name : options.special) {
    if (name.empty() || !IsValidUtf8(name)) {
      return Fail(ErrorCode::kInvalidArgument, "a special token must be text, not empty");
    }
    if (!names.insert(name).second) return Fail(ErrorCode::kInvalidArgument, "the special token {} is there twice", name);
  }
  const auto smallest = static_cast<int64_t>(names.size() + 256);
  if (options.vocab_size < smallest || options.vocab_size > kMaxVocab) {
    return Fail(ErrorCode::kInvalidArgument, "a vocabulary of {}; {} (bytes and special tokens) to {} is possible",
                options.vocab_size, smallest, kMaxVocab);
  }
  options.min_frequency = std::max<int64_t>(options.min_frequency, 1);
  options.threads = std::clamp(options.threads, 1, 256);
  FATHOM_TRY(NamedPreTokenizer named, PreTokenizerByName("deepseek-v3"));
  TokenizerTrainer trainer(std::move(options));
  trainer.pre_tokenizer_ = std::move(named.chain);
  return trainer;
}

void TokenizerTrainer::Add(const std::vector<std::string>& texts) {
  // Threads take texts as they can; sums do not depend on who counted what.
  const auto threads = std::min<size_t>(static_cast<size_t>(options_.threads), texts.size());
  std::vector<std::unordered_map<std::string_view, int64_t>> parts(threads);
  std::atomic<size_t> next{0};
  const auto work = [&](size_t thread) {
    for (size_t i = next++; i < texts.size(); i = next++) {
      pre_tokenizer_.Split(texts[i], [&](std::string_view word) {
        if (word.size() < 2) return;  // one byte has no pair
        if (options_.single_digits && word.find_first_of("0123456789") != std::string_view::npos) return;
        ++parts[thread][word];
      });
    }
  };
  std::vector<std::thread> workers;
  for (size_t t = 1; t < threads; ++t) {
    auto worker = StartThread([&work, t] { work(t); }, {static_cast<int>(t), static_cast<int>(threads), true});
    if (!worker) {
      if (!std::exchange(told_of_threads_, true)) spdlog::warn("going on with {} threads: {}", t, worker.error().message);
      break;
    }
    workers.push_back(std::move(*worker));
  }
  if (threads > 0) work(0);
  for (std::thread& worker : workers) worker.join();
  for (const auto& part : parts) {
    for (const auto& [word, count] : part) {
      if (const auto it = counts_.find(word); it != counts_.end()) it->second += count;
      else counts_.emplace(word, count);
    }
  }
  if (counts_.size() > options_.max_words) Forget();
}

void TokenizerTrainer::Forget() {
  forgot_ = true;
  for (int64_t rare = 1; counts_.size() > options_.max_words / 2; rare *= 2) {
    std::erase_if(counts_, [&](const auto& entry) { return entry.second <= rare; });
  }
}

Result<TrainedTokenizer> TokenizerTrainer::Train() {
  TrainedTokenizer out;
  out.first_special.assign(std::begin(kFirstSpecial), std::end(kFirstSpecial));
  out.last_special.assign(std::begin(kLastSpecial), std::end(kLastSpecial));
  out.last_special.insert(out.last_special.end(), options_.special.begin(), options_.special.end());
  std::vector<int32_t> id_of_byte(256);
  std::unordered_map<std::string, int32_t> id_of_token;
  for (const uint8_t byte : AlphabetOrder()) {
    id_of_byte[byte] = static_cast<int32_t>(out.tokens.size());
    out.tokens.emplace_back(1, static_cast<char>(byte));
    id_of_token.emplace(out.tokens.back(), id_of_byte[byte]);
  }
  std::vector<std::pair<std::string_view, int64_t>> words(counts_.begin(), counts_.end());
  std::sort(words.begin(), words.end());
  Merger merger(words, id_of_byte);
  const auto first = static_cast<int64_t>(out.tokens.size());
  const int64_t wanted = options_.vocab_size - static_cast<int64_t>(out.first_special.size() + out.last_special.size());
  while (static_cast<int64_t>(out.tokens.size()) < wanted) {
    if (options_.progress && !options_.progress(static_cast<int64_t>(out.tokens.size()) - first, wanted - first)) {
      return Fail(ErrorCode::kCancelled, "stopped");
    }
    const auto best = merger.Next();
    if (best.count < options_.min_frequency || best.count == 0) break;
    std::string left = out.tokens[best.pair >> 32], right = out.tokens[best.pair & 0xFFFFFFFF];
    // Two ways to the same bytes are one token with two merges.
    const auto [it, is_new] = id_of_token.emplace(left + right, static_cast<int32_t>(out.tokens.size()));
    if (is_new) out.tokens.push_back(left + right);
    merger.Merge(best.pair, it->second);
    out.merges.emplace_back(std::move(left), std::move(right));
  }
  return out;
}

}  // namespace fathom
