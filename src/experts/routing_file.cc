// The recorded format, docs/formats/routing.md.
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#include <bit>
#include <cstring>

#include "experts/routing_trace.h"
#include "io/file_writer.h"

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "fathomRT";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = 64, kPassHeader = 8, kEnd = 24;

template <typename T>
void Put(std::vector<std::byte>& out, T value) {
  const auto* from = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), from, from + sizeof(T));
}

template <typename T>
T Get(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

size_t Padded(size_t bytes) { return (bytes + 7) / 8 * 8; }

class Writer final : public RoutingWriter {
 public:
  Writer(const ExpertGeometry& geometry, std::unique_ptr<FileWriter> file) : geometry_(geometry), file_(std::move(file)) {
    XXH3_64bits_reset(&hash_);
  }

  Status Start(int32_t first_layer, const std::array<std::byte, 32>& fingerprint) {
    for (const char c : kMagic) bytes_.push_back(static_cast<std::byte>(c));
    for (const uint32_t value : {kVersion, static_cast<uint32_t>(geometry_.layers),
                                 static_cast<uint32_t>(geometry_.experts), static_cast<uint32_t>(geometry_.top_k),
                                 static_cast<uint32_t>(first_layer), uint32_t{0}}) {
      Put(bytes_, value);
    }
    bytes_.insert(bytes_.end(), fingerprint.begin(), fingerprint.end());
    return Flush();
  }

  Status Append(int32_t tokens, std::span<const int32_t> ids) override {
    if (tokens < 1 || tokens > kMostTokens ||
        static_cast<int64_t>(ids.size()) != int64_t{tokens} * geometry_.layers * geometry_.top_k) {
      return Fail(ErrorCode::kInvalidArgument, "{} routed ids are not those of {} tokens", ids.size(), tokens);
    }
    Put(bytes_, static_cast<uint32_t>(tokens));
    Put(bytes_, uint32_t{0});
    for (const int32_t id : ids) {
      if (id < 0 || id >= geometry_.experts) {
        bytes_.clear();
        return Fail(ErrorCode::kInvalidArgument, "routed id {} is not below {}", id, geometry_.experts);
      }
      Put(bytes_, static_cast<uint16_t>(id));
    }
    bytes_.resize(Padded(bytes_.size()));
    tokens_ += static_cast<uint64_t>(tokens);
    return Flush();
  }

  Status Finish() override {
    Put(bytes_, uint64_t{0});
    Put(bytes_, tokens_);
    FATHOM_CHECK_OK(Flush());
    Put(bytes_, static_cast<uint64_t>(XXH3_64bits_digest(&hash_)));
    FATHOM_CHECK_OK(file_->Append(bytes_));
    return file_->Finish();
  }

 private:
  Status Flush() {
    XXH3_64bits_update(&hash_, bytes_.data(), bytes_.size());
    const Status status = file_->Append(bytes_);
    bytes_.clear();
    return status;
  }

  const ExpertGeometry geometry_;
  const std::unique_ptr<FileWriter> file_;
  XXH3_state_t hash_{};
  std::vector<std::byte> bytes_;
  uint64_t tokens_ = 0;
};

}  // namespace

Result<std::unique_ptr<RoutingWriter>> RoutingWriter::Create(Env& env, const std::string& path,
                                                             const ExpertGeometry& geometry, int32_t first_layer,
                                                             const std::array<std::byte, 32>& fingerprint) {
  FATHOM_CHECK_OK(geometry.Check());
  if (first_layer < 0 || first_layer > ExpertGeometry::kMostLayers) {
    return Fail(ErrorCode::kInvalidArgument, "first MoE layer {} is out of range", first_layer);
  }
  FATHOM_TRY(auto file, FileWriter::Create(env, path, size_t{1} << 20));
  auto writer = std::make_unique<Writer>(geometry, std::move(file));
  FATHOM_CHECK_OK(writer->Start(first_layer, fingerprint));
  return writer;
}

Result<RoutingTrace> ParseRoutingFile(std::span<const std::byte> bytes, std::string_view name) {
  auto wrong = [&](std::string_view what) { return Fail(ErrorCode::kCorrupt, "{}: {}", name, what); };
  if (bytes.size() < kHeader + kEnd || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    return wrong("not a routing record");
  const auto version = Get<uint32_t>(bytes, 8);
  if (version != kVersion)
    return Fail(ErrorCode::kUnsupported, "{}: routing record of version {}, this is {}", name, version, kVersion);
  const size_t body = bytes.size() - 8;
  if (XXH3_64bits(bytes.data(), body) != Get<uint64_t>(bytes, body))
    return wrong("the checksum does not match: the record is damaged or was cut short");

  // The checksum is no proof against somebody who computes it anew, so everything is checked all the same.
  RoutingTrace trace;
  const auto layers = Get<uint32_t>(bytes, 12), experts = Get<uint32_t>(bytes, 16), top_k = Get<uint32_t>(bytes, 20);
  const auto first_layer = Get<uint32_t>(bytes, 24);
  constexpr uint32_t kMost = INT32_MAX;
  if (layers > kMost || experts > kMost || top_k > kMost || first_layer > ExpertGeometry::kMostLayers)
    return wrong("a number in the header is out of range");
  trace.geometry = {static_cast<int32_t>(layers), static_cast<int32_t>(experts), static_cast<int32_t>(top_k)};
  if (auto status = trace.geometry.Check(); !status) return wrong(status.error().message);
  trace.first_layer = static_cast<int32_t>(first_layer);
  std::memcpy(trace.fingerprint.data(), bytes.data() + 32, trace.fingerprint.size());

  const size_t row = size_t{layers} * top_k;  // at most 2^18
  trace.ids.reserve((bytes.size() - kHeader) / 2);
  std::vector<int32_t> seen(experts, -1);
  int32_t mark = 0;
  size_t at = kHeader;
  for (;;) {
    if (body - at < kPassHeader) return wrong("it ends inside a pass");
    const auto tokens = Get<uint32_t>(bytes, at);
    const auto flags = Get<uint32_t>(bytes, at + 4);
    at += kPassHeader;
    if (flags != 0) return wrong(fmt::format("a pass has flags {:#x}", flags));
    if (tokens == 0) break;
    if (tokens > RoutingWriter::kMostTokens) return wrong(fmt::format("a pass of {} tokens", tokens));
    const size_t count = row * tokens;
    if (body - at < Padded(2 * count)) return wrong("it ends inside a pass");
    const size_t begin = trace.ids.size();
    trace.ids.resize(begin + count);
    for (size_t l = 0; l < layers; ++l) {
      for (size_t t = 0; t < tokens; ++t) {
        ++mark;
        for (size_t k = 0; k < top_k; ++k) {
          const auto id = Get<uint16_t>(bytes, at + 2 * ((l * tokens + t) * top_k + k));
          if (id >= experts) return wrong(fmt::format("expert {} of {}", id, experts));
          if (seen[id] == mark) return wrong(fmt::format("expert {} twice for one token", id));
          seen[id] = mark;
          trace.ids[begin + (t * layers + l) * top_k + k] = id;
        }
        if (mark == INT32_MAX) std::fill(seen.begin(), seen.end(), -1), mark = 0;
      }
    }
    trace.passes.push_back(static_cast<int32_t>(tokens));
    at += Padded(2 * count);
  }
  if (body - at != 8) return wrong("there is more behind its end");
  if (Get<uint64_t>(bytes, at) != static_cast<uint64_t>(trace.tokens())) return wrong("the number of tokens is wrong");
  return trace;
}

Result<RoutingTrace> ReadRoutingTrace(Env& env, const std::string& path) {
  FATHOM_TRY(const auto file, env.Map(path, {.advice = MapAdvice::kSequential}));
  const auto bytes = file->bytes();
  if (bytes.size() >= kMagic.size() && std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) == 0)
    return ParseRoutingFile(bytes, path);
  return ParseRoutingJson({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace fathom
