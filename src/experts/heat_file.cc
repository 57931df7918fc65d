#include "experts/heat_file.h"

#include <xxhash.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "io/file_writer.h"

namespace fathom {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "fathomEH";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = 64;

template <typename T>
T Get(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

template <typename T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

}  // namespace

std::string HeatPath(const std::string& directory, const std::array<std::byte, 32>& fingerprint) {
  std::string name;
  for (size_t i = 0; i < 16; ++i) name += fmt::format("{:02x}", std::to_integer<int>(fingerprint[i]));
  return JoinPath(directory, name + ".heat");
}

Status SaveHeat(Env& env, const std::string& path, const ExpertHeat& heat) {
  FATHOM_CHECK_OK(heat.geometry.Check());
  if (static_cast<int64_t>(heat.uses.size()) != heat.geometry.count())
    return Fail(ErrorCode::kInvalidArgument, "heat of {} experts, there are {}", heat.uses.size(), heat.geometry.count());
  std::string bytes(kMagic);
  for (const uint32_t value : {kVersion, static_cast<uint32_t>(heat.geometry.layers),
                               static_cast<uint32_t>(heat.geometry.experts), static_cast<uint32_t>(heat.geometry.top_k),
                               uint32_t{0}, uint32_t{0}}) {
    Put(bytes, value);
  }
  bytes.append(reinterpret_cast<const char*>(heat.fingerprint.data()), heat.fingerprint.size());
  for (const float uses : heat.uses) Put(bytes, uses);
  Put(bytes, static_cast<uint64_t>(XXH3_64bits(bytes.data(), bytes.size())));
  FATHOM_CHECK_OK(env.CreateDirectories(DirectoryOf(path)));
  return WriteWholeFile(env, path, bytes, FileAccess::kPrivate);
}

Result<ExpertHeat> LoadHeat(Env& env, const std::string& path, const ExpertGeometry& geometry,
                            const std::array<std::byte, 32>& fingerprint) {
  FATHOM_CHECK_OK(geometry.Check());
  const size_t size = kHeader + size_t{4} * static_cast<size_t>(geometry.count()) + 8;
  FATHOM_TRY(const std::string bytes, ReadWholeFile(env, path, static_cast<int64_t>(size)));
  auto wrong = [&](std::string_view what) { return Fail(ErrorCode::kCorrupt, "{}: {}", path, what); };
  if (bytes.size() < kHeader || !bytes.starts_with(kMagic)) return wrong("not a file of expert heat");
  if (Get<uint32_t>(bytes, 8) != kVersion)
    return Fail(ErrorCode::kUnsupported, "{}: version {}, this is {}", path, Get<uint32_t>(bytes, 8), kVersion);
  if (bytes.size() != size) return wrong("the length does not match the model's experts");
  if (Get<uint64_t>(bytes, size - 8) != XXH3_64bits(bytes.data(), size - 8)) return wrong("the checksum does not match");
  ExpertHeat heat{.geometry = geometry, .fingerprint = fingerprint};
  if (Get<uint32_t>(bytes, 12) != static_cast<uint32_t>(geometry.layers) ||
      Get<uint32_t>(bytes, 16) != static_cast<uint32_t>(geometry.experts) ||
      Get<uint32_t>(bytes, 20) != static_cast<uint32_t>(geometry.top_k) ||
      std::memcmp(bytes.data() + 32, fingerprint.data(), fingerprint.size()) != 0) {
    return wrong("of another model");
  }
  for (int32_t id = 0; id < geometry.count(); ++id) {
    const auto uses = Get<float>(bytes, kHeader + size_t{4} * static_cast<size_t>(id));
    if (!(uses >= 0 && uses <= 1)) return wrong(fmt::format("expert {} is used {} times a pass", id, uses));
    heat.uses.push_back(uses);
  }
  return heat;
}

Result<std::array<std::byte, 32>> ParseFingerprint(std::string_view hex) {
  std::array<std::byte, 32> bytes{};
  if (hex.size() != 64) return Fail(ErrorCode::kInvalidArgument, "a fingerprint has 64 hex digits, not {}", hex.size());
  for (size_t i = 0; i < 64; ++i) {
    const char c = hex[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return Fail(ErrorCode::kInvalidArgument, "a fingerprint has 64 hex digits");
    bytes[i / 2] |= static_cast<std::byte>(i % 2 == 0 ? digit << 4 : digit);
  }
  return bytes;
}

}  // namespace fathom
