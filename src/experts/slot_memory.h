// Memory for expert slots: one range of addresses, reserved once for as many slots as there may ever be, of which the
// first so many are backed by memory (huge pages where the kernel gives them). Shrinking gives memory back to the system.
//
// Owned, not movable; not thread-safe. Failure is a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"

namespace fathom {

class SlotMemory {
 public:
  /// slot_bytes: a multiple of 4096. Only addresses are taken. Errors: kInvalidArgument, kResource.
  static Result<std::unique_ptr<SlotMemory>> Reserve(int64_t slot_bytes, int64_t most_slots);
  ~SlotMemory();
  SlotMemory(const SlotMemory&) = delete;
  SlotMemory& operator=(const SlotMemory&) = delete;

  /// How many slots have memory; the contents of those that stay are kept. Memory is charged when it is first written.
  /// Errors: kResource (nothing changes), kInvalidArgument (not in [0, most_slots]).
  Status Resize(int64_t slots);
  std::byte* slot(int64_t index) const { return data_ + index * slot_bytes_; }
  int64_t slots() const { return slots_; }
  int64_t slot_bytes() const { return slot_bytes_; }
  int64_t bytes() const { return slots_ * slot_bytes_; }

 private:
  SlotMemory() = default;
  std::byte* data_ = nullptr;
  size_t reserved_ = 0;
  std::byte* map_ = nullptr;
  int64_t slot_bytes_ = 0, most_slots_ = 0, slots_ = 0;
};

}  // namespace fathom
