#include "cache/eviction.h"

#include <array>

namespace fathom {
namespace {

constexpr std::array kKinds = {EvictionKind::kSavedTime, EvictionKind::kLru, EvictionKind::kS3Fifo};

}  // namespace

std::string_view EvictionKindName(EvictionKind kind) {
  switch (kind) {
    case EvictionKind::kSavedTime: return "saved-time";
    case EvictionKind::kLru: return "lru";
    case EvictionKind::kS3Fifo: return "s3-fifo";
  }
  return "?";
}

Result<EvictionKind> ParseEvictionKind(std::string_view name) {
  for (const EvictionKind kind : kKinds) {
    if (EvictionKindName(kind) == name) return kind;
  }
  return Fail(ErrorCode::kInvalidArgument, "there is no eviction policy '{}'; there are saved-time, lru and s3-fifo",
              name);
}

std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(EvictionKind kind, int64_t capacity_bytes) {
  switch (kind) {
    case EvictionKind::kLru: return MakeLruPolicy();
    case EvictionKind::kS3Fifo: return MakeS3FifoPolicy(capacity_bytes);
    case EvictionKind::kSavedTime: break;
  }
  return MakeSavedTimePolicy();
}

}  // namespace fathom
