// Reading traces for cache/simulator.h.
#include <unordered_map>

#include "cache/simulator.h"
#include "format/json_lines.h"

namespace fathom {
namespace {

using nlohmann::json;

constexpr int64_t kMostTokens = int64_t{1} << 31;  // of a prompt

struct ChainHash {
  size_t operator()(const std::pair<int32_t, int64_t>& link) const {
    uint64_t x = static_cast<uint64_t>(link.second) * 0x9e3779b97f4a7c15u + static_cast<uint32_t>(link.first);
    x ^= x >> 29;
    return x * 0xbf58476d1ce4e5b9u;
  }
};

const json* NumberIn(const json& object, const char* field) {
  const auto it = object.find(field);
  return it != object.end() && it->is_number() ? &*it : nullptr;
}

}  // namespace

Result<CacheTrace> ParseTrace(std::string_view text, std::string_view name, int64_t block_tokens) {
  CacheTrace trace;
  trace.block_tokens = block_tokens;
  std::unordered_map<std::pair<int32_t, int64_t>, int32_t, ChainHash> known;  // (parent, hash) to block
  const auto wrong = [](std::string_view what) { return Fail(ErrorCode::kCorrupt, "{}", what); };
  FATHOM_CHECK_OK(ForEachJsonLine(text, name, 8, [&](const json& object) -> Status {
    const json* timestamp = NumberIn(object, "timestamp");
    const json* length = NumberIn(object, "input_length");
    const auto ids = object.find("hash_ids");
    if (timestamp == nullptr) return wrong("\"timestamp\" (milliseconds) is not there or not a number");
    if (length == nullptr || !length->is_number_integer()) return wrong("\"input_length\" is not there or not whole");
    if (ids == object.end() || !ids->is_array()) return wrong("\"hash_ids\" is not there or not an array");
    CacheTrace::Request request{.seconds = timestamp->get<double>() / 1000, .tokens = length->get<int64_t>()};
    if (request.tokens < 0 || request.tokens > kMostTokens) return wrong("\"input_length\" is out of range");
    if (!trace.requests.empty() && request.seconds < trace.requests.back().seconds)
      return wrong("\"timestamp\" goes back");
    const int64_t blocks = (request.tokens + block_tokens - 1) / block_tokens;
    if (static_cast<int64_t>(ids->size()) != blocks) {
      return wrong(fmt::format("\"hash_ids\" has {} hashes; {} tokens in blocks of {} are {}", ids->size(),
                               request.tokens, block_tokens, blocks));
    }
    int32_t parent = CacheTrace::kNone;
    for (const json& id : *ids) {
      if (!id.is_number_integer()) return wrong("\"hash_ids\" holds something that is not a whole number");
      const auto [it, made] = known.try_emplace({parent, id.get<int64_t>()}, static_cast<int32_t>(trace.blocks.size()));
      if (made) trace.blocks.push_back({.parent = parent, .depth = static_cast<int32_t>(request.blocks.size())});
      request.blocks.push_back(parent = it->second);
    }
    trace.requests.push_back(std::move(request));
    return {};
  }));
  return trace;
}

}  // namespace fathom
