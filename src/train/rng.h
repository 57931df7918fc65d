// Random numbers that are a function of where they are used: the same on every machine, with nothing to save.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace fathom {

/// A well mixed hash of a few numbers (the finaliser of SplitMix64, chained).
inline uint64_t HashNumbers(std::initializer_list<uint64_t> numbers) {
  uint64_t h = 0x9E3779B97F4A7C15ull;
  for (const uint64_t number : numbers) {
    h += number + 0x9E3779B97F4A7C15ull;
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9ull;
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBull;
    h ^= h >> 31;
  }
  return h;
}

/// 0 … n - 1 from 64 random bits (Lemire's multiplication; the bias is below n / 2^64). REQUIRES: n > 0.
inline uint64_t Below(uint64_t bits, uint64_t n) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits) * n) >> 64);
}

/// In [0, 1).
inline double UnitInterval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

/// Shuffles by Fisher and Yates; the order is a function of `seed`.
template <typename List>
void Shuffle(List& list, uint64_t seed) {
  for (size_t i = list.size(); i > 1; --i) {
    const size_t j = static_cast<size_t>(Below(HashNumbers({seed, i}), i));
    std::swap(list[i - 1], list[j]);
  }
}

}  // namespace fathom
