// Which experts every token of some run chose, layer by layer: what the simulator replays, what --record-routing writes
// and --replay-routing makes decisions from. docs/formats/routing.md has the bytes.
//
// Plain values; functions are thread-safe. What is read may be hostile: every value is checked, and nothing is allocated
// beyond the size of what is read.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "experts/expert_id.h"
#include "io/env.h"

namespace fathom {

struct RoutingTrace {
  ExpertGeometry geometry;
  int32_t first_layer = 0;                    // the model's layer that is MoE layer 0
  std::array<std::byte, 32> fingerprint{};    // of the model (SHA-256); zeros when unknown
  std::vector<uint16_t> ids;                  // [tokens, layers, top_k], each token's in the router's order
  std::vector<int32_t> passes;                // tokens of each forward pass, in order; their sum is tokens()

  int64_t tokens() const {
    const int64_t row = int64_t{geometry.layers} * geometry.top_k;
    return row > 0 ? static_cast<int64_t>(ids.size()) / row : 0;
  }
  std::span<const uint16_t> Of(int64_t token, int32_t layer) const {
    const int64_t k = geometry.top_k;
    return {ids.data() + (token * geometry.layers + layer) * k, static_cast<size_t>(k)};
  }
};

/// Reads a recorded file, or lines {"tok": n, "layers": [[ids], ...]} (one pass a line; other fields are ignored; the
/// number of experts is the largest id plus one, rounded up to a power of two). Errors name the file and the place:
/// kCorrupt, kUnsupported (a newer version), and those of Env.
Result<RoutingTrace> ReadRoutingTrace(Env& env, const std::string& path);
/// The same from bytes; name: for messages.
Result<RoutingTrace> ParseRoutingFile(std::span<const std::byte> bytes, std::string_view name);
Result<RoutingTrace> ParseRoutingJson(std::string_view text, std::string_view name);

/// Writes a recording; it appears under its name, whole, at Finish(). One thread at a time.
class RoutingWriter {
 public:
  static constexpr int32_t kMostTokens = 1 << 20;  // of a pass

  /// Errors: kInvalidArgument (geometry), and those of FileWriter.
  static Result<std::unique_ptr<RoutingWriter>> Create(Env& env, const std::string& path,
                                                       const ExpertGeometry& geometry, int32_t first_layer,
                                                       const std::array<std::byte, 32>& fingerprint);
  virtual ~RoutingWriter() = default;
  /// One pass: ids [layers, tokens, top_k], as a forward pass meets them. Errors: kInvalidArgument (sizes, an id that is
  /// not below experts), and those of the disk, which stay.
  virtual Status Append(int32_t tokens, std::span<const int32_t> ids) = 0;
  virtual Status Finish() = 0;
};

}  // namespace fathom
