// Mapped files whose pages cannot be read any more: the file was cut, or the disk gives an error. Touching such a page raises
// SIGBUS, which ends a program; for guarded memory zeros take the place of the rest of the mapping instead, and lost() says
// so. Whoever computes with guarded memory asks afterwards and throws away what came out.
//
// A handler for SIGBUS is set with the first guard, and passes on what concerns no guarded memory. Guards may be made and
// destroyed by any thread; a guard goes before its mapping does.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"

namespace fathom {

class BusGuard {
 public:
  BusGuard() = default;
  /// bytes: a whole mapping of a file, for reading. Beyond kMost guards at a time, or where the handler cannot
  /// be set, nothing is guarded.
  explicit BusGuard(std::span<const std::byte> bytes);
  ~BusGuard();
  BusGuard(BusGuard&& other) noexcept;
  BusGuard& operator=(BusGuard&& other) noexcept;

  static constexpr int kMost = 4096;
  /// Whether something of it could not be read.
  bool lost() const;

 private:
  int index_ = -1;
};

/// kCorrupt: what lost() means, in words.
Status LostPages(const std::string& path);

}  // namespace fathom
