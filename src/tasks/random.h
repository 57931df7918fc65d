// Random numbers that are the same on every machine: splitmix64 (Steele, Lea, Flood 2014), no std:: distributions.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <utility>

namespace fathom {

/// The finaliser of splitmix64: a bijection of 64 bits that spreads every input bit over all output bits.
constexpr uint64_t Mix64(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// FNV-1a over bytes, then mixed: the low bits of FNV-1a alone depend only on the low bits of the bytes.
constexpr uint64_t HashText(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return Mix64(hash);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() { return Mix64(state_ += 0x9e3779b97f4a7c15u); }

  /// Uniform in [0, n). REQUIRES: 0 < n < 2^32. The bias of at most n / 2^32 does not matter here.
  int64_t Below(int64_t n) { return static_cast<int64_t>(((Next() >> 32) * static_cast<uint64_t>(n)) >> 32); }
  /// Uniform in [low, high].
  int64_t In(int64_t low, int64_t high) { return low + Below(high - low + 1); }
  bool Coin() { return (Next() >> 63) != 0; }

  template <typename T>
  T Pick(std::initializer_list<T> items) {
    return items.begin()[Below(static_cast<int64_t>(items.size()))];
  }
  template <typename Range>
  const auto& Pick(const Range& items) {
    return items[static_cast<size_t>(Below(static_cast<int64_t>(std::size(items))))];
  }
  template <typename Range>
  void Shuffle(Range& items) {
    for (size_t i = std::size(items); i > 1; --i) {
      std::swap(items[i - 1], items[static_cast<size_t>(Below(static_cast<int64_t>(i)))]);
    }
  }

 private:
  uint64_t state_;
};

}  // namespace fathom
