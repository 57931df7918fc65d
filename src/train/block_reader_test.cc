#include "train/block_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "io/fault_env.h"
#include "train/stream_for_test.h"

namespace fathom {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class BlockReaderTest : public ::testing::Test {
 protected:
  Result<BlockReader> Open(const std::vector<std::string>& patterns, const BlockReaderOptions& options) {
    return BlockReader::Open(env_, patterns, options);
  }
  /// One epoch: the blocks by file and offset.
  std::map<std::pair<int, int64_t>, std::string> Epoch(BlockReader& reader) {
    std::map<std::pair<int, int64_t>, std::string> out;
    while (true) {
      const auto block = reader.Next();
      EXPECT_TRUE(block) << (block ? "" : block.error().message);
      if (!block || reader.epoch() > 0) return out;
      EXPECT_TRUE(out.emplace(std::pair(block->file, block->offset), block->text).second) << "given out twice";
    }
  }

  TempFiles files_;
  FaultEnv env_;
};

// Blocks laid end to end are the file, whatever the sizes of chunks and blocks, plain or .xz, cut or not.
TEST_F(BlockReaderTest, BlocksAreTheFile) {
  std::string text = ProseForTest("Whole", 50000);
  text += std::string(3000, 'x') + "\n" + std::string(5000, ' ') + "é" + std::string(9000, 'y');  // nowhere to cut
  files_.Write("a.txt", text);
  files_.WriteXz("b.txt.xz", text);
  files_.Write("c.txt.xz", TempFiles::Xz(text.substr(0, 20000)) + TempFiles::Xz(text.substr(20000)));  // two streams
  for (const std::string name : {"a.txt", "b.txt.xz", "c.txt.xz"}) {
    for (const int64_t chunk : {700, 4096, 1 << 20}) {
      for (const size_t max_read : {0, 13}) {
        SCOPED_TRACE(fmt::format("{} {} {}", name, chunk, max_read));
        env_.faults.max_read = max_read;
        auto reader = Open({files_.Path(name)}, {.block_bytes = 500, .chunk_bytes = chunk});
        ASSERT_TRUE(reader) << reader.error().message;
        std::string whole;
        for (const auto& [key, block] : Epoch(*reader)) {
          EXPECT_TRUE(text.substr(static_cast<size_t>(key.second), block.size()) == block) << key.second;
          whole += block;
        }
        // Blocks of white space alone are left out.
        std::string expected = text, got = whole;
        for (std::string* t : {&expected, &got}) std::erase_if(*t, [](char c) { return c == ' ' || c == '\n'; });
        EXPECT_TRUE(got == expected) << got.size() << " " << expected.size();
      }
    }
  }
}

TEST_F(BlockReaderTest, PartsMeetAtAParagraphOrLine) {
  const std::string prose = ProseForTest("Part", 30000);
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "{\"text\": \"" + std::string(static_cast<size_t>(i % 37), 'a') + "\"}\n";
  const std::map<std::string, std::string> contents = {{"p.txt", prose}, {"p.txt.xz", prose}, {"l.jsonl", lines},
                                                       {"l.jsonl.xz", lines}, {"one.txt", std::string(5000, 'z')}};
  for (const auto& [name, text] : contents) {
    if (name.ends_with(".xz")) files_.WriteXz(name, text);
    else files_.Write(name, text);
    for (const double share : {0.0001, 0.1, 0.5, 0.99}) {
      SCOPED_TRACE(fmt::format("{} {}", name, share));
      std::string parts[2];
      for (const bool held_out : {false, true}) {
        auto reader = Open({files_.Path(name)}, {.held_out_share = share, .held_out = held_out, .block_bytes = 300,
                                                 .chunk_bytes = 2000});
        ASSERT_TRUE(reader);
        if (!reader->Next()) continue;  // nothing in this part
        auto again = Open({files_.Path(name)}, {.held_out_share = share, .held_out = held_out, .block_bytes = 300,
                                                .chunk_bytes = 2000});
        for (const auto& [key, block] : Epoch(*again)) {
          parts[held_out] += block;
          if (name.starts_with("l.")) parts[held_out] += '\n';
        }
      }
      EXPECT_TRUE(parts[0] + parts[1] == text);
      if (!name.starts_with("one") && !parts[0].empty()) {
        EXPECT_TRUE(parts[0].ends_with(name.starts_with("p") ? "\n\n" : "\n"));
      }
    }
  }
}

TEST_F(BlockReaderTest, FilesAreMixed) {
  for (int i = 0; i < 4; ++i) files_.Write(fmt::format("f{}.txt", i), ProseForTest("Mix", 40000));
  auto reader = Open({files_.Path("f*.txt")}, {.block_bytes = 500});
  ASSERT_TRUE(reader);
  int changes = 0, last = -1;
  for (int i = 0; i < 100; ++i) {
    const auto block = reader->Next();
    ASSERT_TRUE(block);
    changes += block->file != last;
    last = block->file;
  }
  EXPECT_GT(changes, 50);
}

TEST_F(BlockReaderTest, ReadErrorsNameTheFile) {
  files_.Write("e.txt", ProseForTest("Err", 50000));
  files_.WriteXz("e.txt.xz", ProseForTest("Err", 50000));
  env_.faults.fail_open = true;
  for (const std::string name : {"e.txt", "e.txt.xz"}) {
    const auto reader = Open({files_.Path(name)}, {});
    ASSERT_FALSE(reader);
    EXPECT_THAT(reader.error().message, HasSubstr(name));
  }
  env_.faults = {};
  for (const std::string name : {"e.txt", "e.txt.xz"}) {
    auto reader = Open({files_.Path(name)}, {.chunk_bytes = 4096});
    ASSERT_TRUE(reader);
    env_.faults.fail_reads_from = 100;
    const auto block = reader->Next();
    ASSERT_FALSE(block);
    EXPECT_EQ(block.error().code, ErrorCode::kIo);
    EXPECT_THAT(block.error().message, HasSubstr(name));
    env_.faults = {};
  }
}

TEST_F(BlockReaderTest, XzThatLiesAboutItsSize) {
  // The footer of one file behind the blocks of another.
  const std::string small = TempFiles::Xz("small"), large = TempFiles::Xz(ProseForTest("Large", 100000));
  for (size_t cut = 1; cut < 40; ++cut) {
    files_.Write("lie.txt.xz", small.substr(0, small.size() - cut) + large.substr(large.size() - cut));
    auto reader = Open({files_.Path("lie.txt.xz")}, {});
    if (!reader) continue;
    for (int i = 0; i < 3; ++i) {
      if (const auto block = reader->Next(); !block) {
        EXPECT_THAT(block.error().message, HasSubstr("lie.txt.xz"));
        break;
      }
    }
  }
}

TEST_F(BlockReaderTest, LinesLongerThanAChunk) {
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += "{\"text\": \"" + std::string(static_cast<size_t>(i * 700), 'b') + "\"}\n";
  files_.Write("long.jsonl", lines);
  auto reader = Open({files_.Path("long.jsonl")}, {.chunk_bytes = 100});
  ASSERT_TRUE(reader);
  EXPECT_EQ(Epoch(*reader).size(), 20u);
}

TEST_F(BlockReaderTest, WhereCountsLines) {
  files_.WriteXz("w.jsonl.xz", "{}\n\n{}\n{}\n");
  auto reader = Open({files_.Path("w.jsonl.xz")}, {});
  ASSERT_TRUE(reader);
  std::set<std::string> where;
  for (int i = 0; i < 3; ++i) where.insert(reader->Where(*reader->Next()));
  EXPECT_EQ(where, (std::set<std::string>{files_.Path("w.jsonl.xz") + ": line 1", files_.Path("w.jsonl.xz") + ": line 3",
                                          files_.Path("w.jsonl.xz") + ": line 4"}));
}

}  // namespace
}  // namespace fathom
