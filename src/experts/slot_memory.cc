#include "experts/slot_memory.h"

#include <sys/mman.h>

namespace fathom {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

Result<std::unique_ptr<SlotMemory>> SlotMemory::Reserve(int64_t slot_bytes, int64_t most_slots) {
  int64_t bytes = 0;
  if (slot_bytes <= 0 || slot_bytes % 4096 != 0 || most_slots <= 0 ||
      __builtin_mul_overflow(slot_bytes, most_slots, &bytes) || bytes > (int64_t{1} << 46)) {
    return Fail(ErrorCode::kInvalidArgument, "{} expert slots of {} bytes", most_slots, slot_bytes);
  }
  std::unique_ptr<SlotMemory> memory(new SlotMemory);
  memory->reserved_ = static_cast<size_t>(bytes) + kHugePage;
  void* map = mmap(nullptr, memory->reserved_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) {
    memory->reserved_ = 0;
    return Fail(ErrorCode::kResource, "cannot reserve addresses for {} expert slots of {} bytes", most_slots, slot_bytes);
  }
  memory->map_ = static_cast<std::byte*>(map);
  const auto address = reinterpret_cast<uintptr_t>(map);
  memory->data_ = memory->map_ + (kHugePage - address % kHugePage) % kHugePage;
  memory->slot_bytes_ = slot_bytes;
  memory->most_slots_ = most_slots;
  madvise(memory->data_, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return memory;
}

SlotMemory::~SlotMemory() {
  if (reserved_ > 0) munmap(map_, reserved_);
}

Status SlotMemory::Resize(int64_t slots) {
  if (slots < 0 || slots > most_slots_)
    return Fail(ErrorCode::kInvalidArgument, "{} expert slots are not in [0, {}]", slots, most_slots_);
  const int64_t before = bytes(), after = slots * slot_bytes_;
  if (after > before && mprotect(data_ + before, static_cast<size_t>(after - before), PROT_READ | PROT_WRITE) != 0)
    return Fail(ErrorCode::kResource, "cannot get {} bytes for expert slots", after - before);
  if (after < before) {
    // A huge page that the new end lies in is split by the kernel.
    madvise(data_ + after, static_cast<size_t>(before - after), MADV_DONTNEED);
    mprotect(data_ + after, static_cast<size_t>(before - after), PROT_NONE);
  }
  slots_ = slots;
  return {};
}

}  // namespace fathom
