#include "text/bpe.h"

#include <algorithm>
#include <queue>

#include "text/unicode.h"

namespace fathom {

BpeModel::BpeModel(const Vocabulary* vocabulary, size_t merge_count, Options options)
    : vocabulary_(vocabulary), options_(options) {
  size_t slots = 1024;
  while (slots < merge_count * 2) slots *= 2;
  merges_.resize(slots);
  whole_ = std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(vocabulary->size()));
  byte_ids_.fill(-1);
}

namespace {
size_t Home(uint64_t pair, size_t mask) { return (pair * 0x9E3779B97F4A7C15 >> 24) & mask; }
}  // namespace

BpeModel::Outcome BpeModel::FindMerge(TokenId left, TokenId right) const {
  const uint64_t pair = Pair(left, right);
  const size_t mask = merges_.size() - 1;
  for (size_t i = Home(pair, mask);; i = (i + 1) & mask) {
    if (merges_[i].pair == pair) return {merges_[i].rank, merges_[i].merged};
    if (merges_[i].pair == kNoPair) return {};
  }
}

void BpeModel::GrowMerges() {
  const std::vector<Merge> old = std::move(merges_);
  merges_.assign(old.size() * 2, Merge{});
  const size_t mask = merges_.size() - 1;
  for (const Merge& merge : old) {
    if (merge.pair == kNoPair) continue;
    size_t i = Home(merge.pair, mask);
    while (merges_[i].pair != kNoPair) i = (i + 1) & mask;
    merges_[i] = merge;
  }
}

Status BpeModel::AddMerge(std::string_view left_bytes, std::string_view right_bytes) {
  const uint32_t rank = next_rank_++;
  const TokenId left = vocabulary_->Find(left_bytes), right = vocabulary_->Find(right_bytes);
  if (left < 0 || right < 0) {
    return Fail(ErrorCode::kCorrupt, "the token \"{}\" is not in the vocabulary",
                BytesToByteLevel(left < 0 ? left_bytes : right_bytes));
  }
  std::string joined;
  joined.reserve(left_bytes.size() + right_bytes.size());
  joined.append(left_bytes).append(right_bytes);
  const TokenId merged = vocabulary_->Find(joined);
  if (merged < 0) {
    return Fail(ErrorCode::kCorrupt, "the merged token \"{}\" is not in the vocabulary", BytesToByteLevel(joined));
  }
  // A control token never comes out of merging, whatever the file says.
  if (!vocabulary_->Has(merged, Vocabulary::kWord)) return {};
  if (merges_.size() < (merge_count_ + 1) * 2) GrowMerges();
  const uint64_t pair = Pair(left, right);
  const size_t mask = merges_.size() - 1;
  size_t i = Home(pair, mask);
  while (merges_[i].pair != kNoPair && merges_[i].pair != pair) i = (i + 1) & mask;
  if (merges_[i].pair == kNoPair) ++merge_count_;
  merges_[i] = {pair, rank, merged};  // of a merge that is listed twice the last counts, as for the authors
  return {};
}

void BpeModel::Finish() {
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    const TokenId id = vocabulary_->Find(std::string_view(&text, 1));
    byte_ids_[byte] = vocabulary_->Has(id, Vocabulary::kWord) ? id : -1;
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (byte_ids_[byte] >= 0) continue;
    const char text = static_cast<char>(byte);
    // Bytes that no UTF-8 has (many vocabularies lack them) come only from broken text, of which the authors' code
    // knows nothing: they are said as U+FFFD.
    if (byte == 0xC0 || byte == 0xC1 || byte >= 0xF5) {
      const std::vector<TokenId> replacement = {byte_ids_[0xEF], byte_ids_[0xBF], byte_ids_[0xBD]};
      if (std::count(replacement.begin(), replacement.end(), -1) == 0) missing_byte_ids_[byte] = replacement;
    } else if (options_.byte_fallback) {
      for (char part : BytesToByteLevel(std::string_view(&text, 1))) {
        const TokenId fallback = vocabulary_->Find(fmt::format("<0x{:02X}>", static_cast<uint8_t>(part)));
        if (fallback < 0) {
          missing_byte_ids_[byte].clear();
          break;
        }
        missing_byte_ids_[byte].push_back(fallback);
      }
    }
  }
  FinishTables();
}

void BpeModel::FinishTables() {
  byte_pairs_.resize(256 * 256);
  for (int left = 0; left < 256; ++left) {
    for (int right = 0; right < 256; ++right) {
      if (byte_ids_[left] < 0 || byte_ids_[right] < 0) continue;
      byte_pairs_[left * 256 + right] = FindMerge(byte_ids_[left], byte_ids_[right]);
    }
  }
  for (TokenId id = 0; id < vocabulary_->size(); ++id) {
    const bool word = vocabulary_->Has(id, Vocabulary::kWord);
    whole_[id] = !word ? kOthers : options_.ignore_merges ? kItself : kNotKnownYet;
  }
}

void BpeModel::Symbols(std::string_view word, std::vector<TokenId>& out) const {
  bool last_unknown = false;
  for (char c : word) {
    const auto byte = static_cast<uint8_t>(c);
    bool unknown = false;
    if (byte_ids_[byte] >= 0) {
      out.push_back(byte_ids_[byte]);
    } else if (!missing_byte_ids_[byte].empty()) {
      out.insert(out.end(), missing_byte_ids_[byte].begin(), missing_byte_ids_[byte].end());
    } else if (options_.unknown >= 0) {
      unknown = true;
      if (!(options_.fuse_unknown && last_unknown)) out.push_back(options_.unknown);
    }  // otherwise the byte is left out, as for the authors: such a vocabulary has no way to say it
    last_unknown = unknown;
  }
}

void BpeModel::Encode(std::string_view word, std::vector<TokenId>& out) const {
  if (word.empty()) return;
  const TokenId whole = vocabulary_->Find(word);
  if (whole >= 0) {
    const uint8_t known = whole_[whole].load(std::memory_order_relaxed);
    if (known == kItself) return out.push_back(whole);
    if (known == kNotKnownYet) {
      const size_t before = out.size();
      word.size() <= kShortWord ? MergeShort(word, out) : MergeLong(word, out);
      const bool itself = out.size() == before + 1 && out.back() == whole;
      whole_[whole].store(itself ? kItself : kOthers, std::memory_order_relaxed);
      return;
    }
  }
  word.size() <= kShortWord ? MergeShort(word, out) : MergeLong(word, out);
}

void BpeModel::MergeShort(std::string_view word, std::vector<TokenId>& out) const {
  TokenId ids[kShortWord];
  uint32_t ranks[kShortWord];   // of the pair that begins at i
  TokenId merged[kShortWord];
  int n = static_cast<int>(word.size());
  for (int i = 0; i < n; ++i) {
    ids[i] = byte_ids_[static_cast<uint8_t>(word[i])];
    if (ids[i] < 0) return MergeLong(word, out);  // there may be more or fewer symbols than bytes
  }
  const auto set = [&](int i, Outcome outcome) {
    ranks[i] = outcome.rank;
    merged[i] = outcome.merged;
  };
  const auto look_up = [&](int i) { set(i, i + 1 < n ? FindMerge(ids[i], ids[i + 1]) : Outcome{}); };
  for (int i = 0; i + 1 < n; ++i) {
    set(i, byte_pairs_[static_cast<uint8_t>(word[i]) * 256 + static_cast<uint8_t>(word[i + 1])]);
  }
  set(n - 1, {});
  for (;;) {
    int best = 0;
    for (int i = 1; i < n; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    ids[best] = merged[best];
    --n;
    for (int i = best + 1; i < n; ++i) {
      ids[i] = ids[i + 1];
      ranks[i] = ranks[i + 1];
      merged[i] = merged[i + 1];
    }
    look_up(best);
    if (best > 0) look_up(best - 1);
  }
  out.insert(out.end(), ids, ids + n);
}

void BpeModel::MergeLong(std::string_view word, std::vector<TokenId>& out) const {
  std::vector<TokenId> ids;
  ids.reserve(word.size());
  Symbols(word, ids);
  const size_t n = ids.size();
  if (n == 0) return;
  // A list over the symbols, and a heap of candidate merges; a candidate whose pair has changed since is passed over.
  std::vector<uint32_t> next(n), previous(n), ranks(n, kNoRank);
  std::vector<TokenId> merged(n, -1);
  const auto kEnd = static_cast<uint32_t>(n);
  struct Candidate {
    uint32_t rank, pos;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : pos > other.pos;
    }
  };
  std::vector<Candidate> heap;
  heap.reserve(n);
  for (uint32_t i = 0; i < n; ++i) next[i] = i + 1, previous[i] = i == 0 ? kEnd : i - 1;
  const auto look_up = [&](uint32_t i) {
    const Outcome outcome = next[i] != kEnd ? FindMerge(ids[i], ids[next[i]]) : Outcome{};
    ranks[i] = outcome.rank;
    merged[i] = outcome.merged;
    return outcome.rank != kNoRank;
  };
  for (uint32_t i = 0; i < n; ++i) {
    if (look_up(i)) heap.push_back({ranks[i], i});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>{}, std::move(heap));
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    const uint32_t i = top.pos;
    if (ids[i] < 0 || ranks[i] != top.rank) continue;
    const uint32_t right = next[i];
    ids[i] = merged[i];
    ids[right] = -1;
    next[i] = next[right];
    if (next[i] != kEnd) previous[next[i]] = i;
    if (look_up(i)) queue.push({ranks[i], i});
    if (previous[i] != kEnd && look_up(previous[i])) queue.push({ranks[previous[i]], previous[i]});
  }
  for (uint32_t i = 0; i != kEnd; i = next[i]) out.push_back(ids[i]);
}

}  // namespace fathom
