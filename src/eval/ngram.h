// An n-gram language model over any symbols (bytes, tokens): interpolated modified Kneser-Ney smoothing, the yardstick
// that a neural model should beat (Chen & Goodman, TR-10-98, section 3; Kneser & Ney, ICASSP 1995).
//
//   p(w | h) = max(c(hw) - D(c(hw)), 0) / c(h·) + gamma(h) p(w | h')
//
// with the raw count c at the highest order, the number of different symbols before at lower ones, h' = h without its
// first symbol, three discounts an order from the counts of counts, and the uniform distribution below the unigrams.
//
// n-grams are kept by 64-bit hashes in open-addressing tables, one an order; with 10^8 n-grams the chance that any two
// share a hash is below 0.0003, and such a pair would share its counts. Memory is bounded: when the tables may not grow
// any more, training stops and says how much it has read. Not thread-safe while training, thread-safe after Finish().
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace fathom {

class NgramModel {
 public:
  static constexpr int kMostOrder = 8;

  /// order: symbols of an n-gram, [1, 8]; vocab: symbols are in [0, vocab). memory: bytes that the tables may take.
  /// Errors: kInvalidArgument.
  static Result<NgramModel> Create(int order, uint32_t vocab, int64_t memory);

  /// Counts a text. n-grams do not reach from one text into the next. Returns how many of its symbols were counted:
  /// fewer than all when the memory is used up. REQUIRES: symbols below vocab; not after Finish().
  size_t Train(std::span<const uint32_t> text);
  /// Sets the discounts. Once, before the first Probability().
  void Finish();

  /// p(symbol | context); of a longer context only the last order - 1 symbols count. In (0, 1], sums to 1 over symbols.
  double Probability(std::span<const uint32_t> context, uint32_t symbol) const;
  /// Bits that a text takes, each symbol coded with what stands before it.
  double Bits(std::span<const uint32_t> text) const;

  int order() const { return static_cast<int>(tables_.size()); }
  bool full() const { return full_; }
  int64_t ngrams() const;        // different ones, of all orders
  int64_t memory_bytes() const;  // of the tables
  /// Of an order, [1, order]: what is taken from counts 1, 2 and 3 or more.
  std::array<double, 3> discounts(int order) const { return discounts_[static_cast<size_t>(order - 1)]; }

 private:
  // A table's row: an n-gram's count, and as a context what follows it.
  struct Entry {
    uint64_t key = 0;  // 0: free
    uint32_t count = 0;
    uint32_t total = 0;                   // sum of the counts of n-grams that go on from here
    std::array<uint32_t, 3> followers{};  // how many of these have count 1, 2, and more
  };
  class Table {
   public:
    /// The row of a key, made when it is not there; nullptr when that needs more than `memory` bytes.
    Entry* Insert(uint64_t key, int64_t memory);
    const Entry* Find(uint64_t key) const;
    const std::vector<Entry>& rows() const { return rows_; }
    int64_t used() const { return used_; }
    int64_t bytes() const { return static_cast<int64_t>(rows_.size() * sizeof(Entry)); }

   private:
    size_t Place(uint64_t key) const;
    bool Grow(int64_t memory);
    std::vector<Entry> rows_;
    int64_t used_ = 0;
  };

  NgramModel(int order, uint32_t vocab, int64_t memory)
      : vocab_(vocab), memory_(memory), tables_(static_cast<size_t>(order)), discounts_(static_cast<size_t>(order)) {}
  bool Count(std::span<const uint32_t> window);
  double Discount(size_t order_index, uint32_t count) const;

  uint32_t vocab_;
  int64_t memory_;
  std::vector<Table> tables_;                     // [n - 1]: n-grams
  std::vector<std::array<double, 3>> discounts_;  // [n - 1]
  Entry root_;                                    // the empty context
  bool full_ = false;
};

}  // namespace fathom
