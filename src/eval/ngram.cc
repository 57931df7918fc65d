#include "eval/ngram.h"

#include <algorithm>
#include <cmath>

namespace fathom {
namespace {

constexpr size_t kFirstRows = 1024;

/// Never 0, which marks a free row.
uint64_t Key(std::span<const uint32_t> symbols) {
  uint64_t hash = 0x9E3779B97F4A7C15u;
  for (const uint32_t symbol : symbols) {
    hash ^= symbol + 1u;
    hash *= 0xBF58476D1CE4E5B9u;  // SplitMix64's finaliser, a round a symbol
    hash ^= hash >> 31;
    hash *= 0x94D049BB133111EBu;
    hash ^= hash >> 30;
  }
  return hash == 0 ? 1 : hash;
}

size_t FollowerClass(uint32_t count) { return std::min<uint32_t>(count, 3) - 1; }

}  // namespace

size_t NgramModel::Table::Place(uint64_t key) const {
  const size_t mask = rows_.size() - 1;
  size_t at = static_cast<size_t>(key) & mask;
  while (rows_[at].key != 0 && rows_[at].key != key) at = (at + 1) & mask;
  return at;
}

bool NgramModel::Table::Grow(int64_t memory) {
  const size_t rows = rows_.empty() ? kFirstRows : rows_.size() * 2;
  if (static_cast<int64_t>(rows * sizeof(Entry)) > memory) return false;
  std::vector<Entry> old(rows);
  old.swap(rows_);
  for (const Entry& entry : old) {
    if (entry.key != 0) rows_[Place(entry.key)] = entry;
  }
  return true;
}

NgramModel::Entry* NgramModel::Table::Insert(uint64_t key, int64_t memory) {
  if (!rows_.empty()) {
    Entry& entry = rows_[Place(key)];
    if (entry.key == key) return &entry;
  }
  // At most 4 of 5 rows are in use, so that a search ends soon.
  if ((used_ + 1) * 5 > static_cast<int64_t>(rows_.size()) * 4 && !Grow(memory)) return nullptr;
  Entry& entry = rows_[Place(key)];
  entry.key = key;
  ++used_;
  return &entry;
}

const NgramModel::Entry* NgramModel::Table::Find(uint64_t key) const {
  if (rows_.empty()) return nullptr;
  const Entry& entry = rows_[Place(key)];
  return entry.key == key ? &entry : nullptr;
}

Result<NgramModel> NgramModel::Create(int order, uint32_t vocab, int64_t memory) {
  if (order < 1 || order > kMostOrder) {
    return Fail(ErrorCode::kInvalidArgument, "an n-gram of {} symbols: must lie in [1, {}]", order, kMostOrder);
  }
  if (vocab < 1) return Fail(ErrorCode::kInvalidArgument, "an n-gram model needs symbols");
  const int64_t least = static_cast<int64_t>(order * kFirstRows * sizeof(Entry));
  if (memory < 2 * least) {
    return Fail(ErrorCode::kInvalidArgument, "{} bytes are too few for an n-gram model of order {}", memory, order);
  }
  return NgramModel(order, vocab, memory);
}

int64_t NgramModel::memory_bytes() const {
  int64_t sum = 0;
  for (const Table& table : tables_) sum += table.bytes();
  return sum;
}

int64_t NgramModel::ngrams() const {
  int64_t sum = 0;
  for (const Table& table : tables_) sum += table.used();
  return sum;
}

// Counts the n-gram that is the whole window, or, where it is new, one more kind of predecessor for its shorter
// endings. False, with nothing counted, when there is no memory.
bool NgramModel::Count(std::span<const uint32_t> window) {
  // Rows first: of the n-gram, of its new endings and of their contexts (endings' beginnings).
  struct Step {
    size_t order_index;
    uint64_t key, context;
  };
  std::array<Step, kMostOrder> steps;
  size_t count = 0;
  for (auto rest = window; !rest.empty(); rest = rest.subspan(1)) {
    const size_t index = rest.size() - 1;
    steps[count++] = {index, Key(rest), index > 0 ? Key(rest.first(index)) : 0};
    const Entry* known = tables_[index].Find(steps[count - 1].key);
    if (known != nullptr && known->count > 0) break;  // was seen before: its endings have counted it
  }
  for (size_t i = 0; i < count; ++i) {
    Table& table = tables_[steps[i].order_index];
    // A table that grows has its old and new rows at once, and both count.
    if (table.Insert(steps[i].key, memory_ - memory_bytes()) == nullptr) return false;
    if (steps[i].order_index == 0) continue;
    Table& contexts = tables_[steps[i].order_index - 1];
    if (contexts.Insert(steps[i].context, memory_ - memory_bytes()) == nullptr) return false;
  }
  for (size_t i = 0; i < count; ++i) {
    const Step& step = steps[i];
    Entry& entry = *tables_[step.order_index].Insert(step.key, 0);
    Entry& context = step.order_index == 0 ? root_ : *tables_[step.order_index - 1].Insert(step.context, 0);
    if (entry.count > 0) --context.followers[FollowerClass(entry.count)];
    ++entry.count;
    ++context.followers[FollowerClass(entry.count)];
    ++context.total;
  }
  return true;
}

size_t NgramModel::Train(std::span<const uint32_t> text) {
  const size_t order = tables_.size();
  if (full_) return 0;
  for (size_t end = order; end <= text.size(); ++end) {
    if (Count(text.subspan(end - order, order))) continue;
    full_ = true;
    return end - 1;
  }
  return text.size();
}

void NgramModel::Finish() {
  for (size_t i = 0; i < tables_.size(); ++i) {
    std::array<double, 5> of_count{};  // how many n-grams have count 1, 2, 3, 4
    for (const Entry& entry : tables_[i].rows()) {
      if (entry.count >= 1 && entry.count <= 4) of_count[entry.count] += 1;
    }
    auto& discount = discounts_[i];
    discount = {0.5, 1.0, 1.5};  // where the counts of counts say nothing (few symbols, all seen often)
    if (of_count[1] == 0 || of_count[2] == 0 || of_count[3] == 0 || of_count[4] == 0) continue;
    const double y = of_count[1] / (of_count[1] + 2 * of_count[2]);
    for (int k = 1; k <= 3; ++k) {
      const double d = k - (k + 1) * y * of_count[static_cast<size_t>(k + 1)] / of_count[static_cast<size_t>(k)];
      if (d > 0 && d <= k) discount[static_cast<size_t>(k - 1)] = d;
    }
  }
}

double NgramModel::Discount(size_t order_index, uint32_t count) const {
  return count == 0 ? 0 : discounts_[order_index][FollowerClass(count)];
}

double NgramModel::Probability(std::span<const uint32_t> context, uint32_t symbol) const {
  const size_t longest = std::min(context.size(), tables_.size() - 1);
  std::array<uint32_t, kMostOrder> window{};
  std::copy_n(context.end() - static_cast<std::ptrdiff_t>(longest), longest, window.begin());
  window[longest] = symbol;
  double p = 1.0 / vocab_;
  for (size_t length = 0; length <= longest; ++length) {  // of the context
    const auto rest = std::span<const uint32_t>(window).subspan(longest - length, length + 1);
    const Entry* from = length == 0 ? &root_ : tables_[length - 1].Find(Key(rest.first(length)));
    if (from == nullptr || from->total == 0) break;  // a longer context is not known either
    const Entry* entry = tables_[length].Find(Key(rest));
    const uint32_t count = entry == nullptr ? 0 : entry->count;
    double left = 0;  // what the discounts took from this context
    for (size_t k = 0; k < 3; ++k) left += discounts_[length][k] * from->followers[k];
    const auto total = static_cast<double>(from->total);
    p = (count - Discount(length, count)) / total + left / total * p;
  }
  return p;
}

double NgramModel::Bits(std::span<const uint32_t> text) const {
  const size_t most = tables_.size() - 1;
  double bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t known = std::min(i, most);
    bits -= std::log2(Probability(text.subspan(i - known, known), text[i]));
  }
  return bits;
}

}  // namespace fathom
