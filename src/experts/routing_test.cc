// Routing records: written, read, and damaged in every way.
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstring>
#include <random>

#include "experts/routing_trace.h"
#include "io/fault_env.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

const ExpertGeometry kGeometry{3, 10, 2};

std::vector<int32_t> Ids(int tokens) {
  std::vector<int32_t> ids;  // [layers, tokens, top_k]
  for (int l = 0; l < kGeometry.layers; ++l)
    for (int t = 0; t < tokens; ++t) ids.insert(ids.end(), {(l + t) % 10, (l + 2 * t + 5) % 10 == (l + t) % 10 ? 9 - (l + t) % 10 : (l + 2 * t + 5) % 10});
  return ids;
}

std::vector<std::byte> Record(const std::string& path) {
  std::array<std::byte, 32> fingerprint{};
  fingerprint[3] = std::byte{7};
  auto writer = RoutingWriter::Create(Env::Default(), path, kGeometry, 1, fingerprint);
  EXPECT_TRUE(writer);
  EXPECT_TRUE((*writer)->Append(4, Ids(4)));
  EXPECT_TRUE((*writer)->Append(1, Ids(1)));
  EXPECT_TRUE((*writer)->Finish());
  const auto text = ReadWholeFile(Env::Default(), path, 1 << 20);
  EXPECT_TRUE(text);
  const auto* bytes = reinterpret_cast<const std::byte*>(text->data());
  return {bytes, bytes + text->size()};
}

void Seal(std::vector<std::byte>& bytes) {
  const uint64_t sum = XXH3_64bits(bytes.data(), bytes.size() - 8);
  std::memcpy(bytes.data() + bytes.size() - 8, &sum, 8);
}

TEST(RoutingRecord, ComesBackAsItWas) {
  const TempFolderForTest folder;
  Record(folder / "r");
  const auto trace = ReadRoutingTrace(Env::Default(), folder / "r");
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->geometry, kGeometry);
  EXPECT_EQ(trace->first_layer, 1);
  EXPECT_EQ(trace->fingerprint[3], std::byte{7});
  EXPECT_EQ(trace->passes, (std::vector<int32_t>{4, 1}));
  EXPECT_EQ(trace->tokens(), 5);
  const auto ids = Ids(4);
  for (int l = 0; l < 3; ++l) {
    for (int t = 0; t < 4; ++t) {
      for (int k = 0; k < 2; ++k) EXPECT_EQ(trace->Of(t, l)[k], ids[(l * 4 + t) * 2 + k]);
    }
  }
}

TEST(RoutingRecord, NoFileBeforeFinish) {
  const TempFolderForTest folder;
  {
    auto writer = RoutingWriter::Create(Env::Default(), folder / "r", kGeometry, 0, {});
    ASSERT_TRUE(writer);
    ASSERT_TRUE((*writer)->Append(1, Ids(1)));
    EXPECT_EQ((*writer)->Append(2, Ids(1)).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ((*writer)->Append(0, {}).error().code, ErrorCode::kInvalidArgument);
    auto wrong = Ids(1);
    wrong[3] = 10;
    EXPECT_EQ((*writer)->Append(1, wrong).error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(Env::Default().Exists(folder / "r"));
  FaultEnv env;
  env.faults.fail_write_after = 100;
  auto writer = RoutingWriter::Create(env, folder / "r", kGeometry, 0, {});
  ASSERT_TRUE(writer);
  (void)(*writer)->Append(4, Ids(4));
  EXPECT_FALSE((*writer)->Finish());
  EXPECT_FALSE(Env::Default().Exists(folder / "r"));
}

TEST(RoutingRecord, EveryFlippedBitAndEveryCutIsSeen) {
  const TempFolderForTest folder;
  const auto good = Record(folder / "r");
  ASSERT_TRUE(ParseRoutingFile(good, "r"));
  for (size_t i = 0; i < good.size(); ++i) {
    auto bad = good;
    bad[i] ^= std::byte{1};
    EXPECT_FALSE(ParseRoutingFile(bad, "r")) << i;
    EXPECT_FALSE(ParseRoutingFile(std::span(good).first(i), "r")) << i;
  }
}

// With the right checksum: every value still has to make sense, and nothing large is allocated.
TEST(RoutingRecord, HostileValues) {
  const TempFolderForTest folder;
  const auto good = Record(folder / "r");
  auto with = [&](size_t at, uint32_t value) {
    auto bytes = good;
    std::memcpy(bytes.data() + at, &value, 4);
    Seal(bytes);
    return ParseRoutingFile(bytes, "r.bin");
  };
  EXPECT_EQ(with(8, 2).error().code, ErrorCode::kUnsupported);
  for (const size_t at : {12, 16, 20, 64}) {
    for (const uint32_t value : {0u, 0x7fffffffu, 0xffffffffu, 70000u}) {
      const auto trace = with(at, value);
      ASSERT_FALSE(trace) << at << " " << value;
      EXPECT_EQ(trace.error().code, ErrorCode::kCorrupt);
      EXPECT_NE(trace.error().message.find("r.bin"), std::string::npos);
    }
  }
  EXPECT_FALSE(with(68, 1));          // flags
  EXPECT_FALSE(with(72, 0xffff));     // an expert that there is not
  EXPECT_FALSE(with(72, 0x00030003));  // one twice
  std::mt19937_64 random(3);
  for (int round = 0; round < 20000; ++round) {
    auto bytes = good;
    for (int flips = 0; flips < 3; ++flips) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    Seal(bytes);
    const auto trace = ParseRoutingFile(bytes, "r");
    if (!trace) continue;
    for (const uint16_t id : trace->ids) ASSERT_LT(id, trace->geometry.experts);
  }
}

TEST(RoutingJson, ReadsLines) {
  const auto trace = ParseRoutingJson("{\"tok\": 0, \"layers\": [[1, 4], [0, 2]]}\n\n{\"layers\": [[3, 4], [5, 2]]}\n", "t");
  ASSERT_TRUE(trace) << trace.error().message;
  EXPECT_EQ(trace->geometry, (ExpertGeometry{2, 8, 2}));
  EXPECT_EQ(trace->passes.size(), 2u);
  EXPECT_EQ(trace->Of(1, 1)[0], 5);
}

TEST(RoutingJson, NamesTheLine) {
  for (const char* text :
       {"", "[]", "{}", "{\"layers\": 3}", "{\"layers\": []}", "{\"layers\": [[]]}", "{\"layers\": [[1, 1]]}",
        "{\"layers\": [[1, -1]]}", "{\"layers\": [[1, 2.5]]}", "{\"layers\": [[1, 65535]]}", "{\"layers\": [[1], 2]}",
        "{\"layers\": [[1], [1, 2]]}", "{\"layers\": [[1]]}\n{\"layers\": [[1], [2]]}", "{\"layers\": [[1]]",
        "{\"layers\": [[18446744073709551615]]}"}) {
    const auto trace = ParseRoutingJson(text, "t.jsonl");
    ASSERT_FALSE(trace) << text;
    EXPECT_EQ(trace.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(trace.error().message.find("t.jsonl"), std::string::npos);
  }
}

}  // namespace
}  // namespace fathom
