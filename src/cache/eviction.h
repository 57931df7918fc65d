// The policies of the KV cache, by name; the seam and those that experts use too are in base/eviction_policy.h.
//
// Not thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/eviction_policy.h"
#include "base/result.h"

namespace fathom {

enum class EvictionKind { kSavedTime, kLru, kS3Fifo };
std::string_view EvictionKindName(EvictionKind kind);  // "saved-time", "lru", "s3-fifo"
/// Errors: kInvalidArgument with the names there are.
Result<EvictionKind> ParseEvictionKind(std::string_view name);
/// capacity_bytes: of the tier, for policies that divide it.
std::unique_ptr<EvictionPolicy> MakeEvictionPolicy(EvictionKind kind, int64_t capacity_bytes);

std::unique_ptr<EvictionPolicy> MakeSavedTimePolicy();

}  // namespace fathom
