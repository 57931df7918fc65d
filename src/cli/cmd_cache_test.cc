// `fathom cache` as a script sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/source_dir_for_test.h"
#include "cache/kv_cache.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/temp_folder_for_test.h"
#include "engine/engine.h"
#include "engine/fingerprint.h"
#include "engine/tokenizer_loader.h"
#include "io/env.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;

class CacheCommand : public ::testing::Test {
 protected:
  int Run(std::vector<std::string> args) {
    CLI::App app;
    Action selected;
    RegisterCache(app, selected);
    std::reverse(args.begin(), args.end());  // CLI11 takes them from the back
    err_.clear();
    out_.clear();
    try {
      app.parse(args);
    } catch (const CLI::ParseError& error) {
      err_ = std::string("fathom: ") + error.what();
      return 2;
    }
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    const Status status = selected();
    out_ = testing::internal::GetCapturedStdout();
    err_ = testing::internal::GetCapturedStderr();
    if (status) return 0;
    err_ += FormatError(status.error());
    return ExitStatus(status.error());
  }
  std::string File(const std::string& name, const std::string& text) {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  TempFolder folder_;
  std::string out_, err_;
};

constexpr char kTrace[] =
    "{\"timestamp\": 0, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [1, 2]}\n"
    "{\"timestamp\": 9, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [1, 2]}\n";

TEST_F(CacheCommand, SimulateReportsEveryPolicyAndSize) {
  const std::string trace = File("t.jsonl", kTrace);
  ASSERT_EQ(Run({"cache", "simulate", "--trace", trace, "--memory", "1blocks,1GiB", "--json"}), 0) << err_;
  const auto json = nlohmann::json::parse(out_);
  const auto& one = json["traces"][0];
  EXPECT_EQ(one["requests"], 2);
  EXPECT_EQ(one["ceiling_tokens"], 1024);
  ASSERT_EQ(one["runs"].size(), 6u);
  EXPECT_EQ(one["runs"][0]["memory_bytes"], 512 * 70272);
  EXPECT_EQ(one["runs"][0]["hit_tokens"], 512);
  EXPECT_EQ(one["runs"][0]["belady_hit_tokens"], 512);
  EXPECT_EQ(one["runs"][3]["policy"], "saved-time");
  EXPECT_EQ(one["runs"][3]["hit_tokens"], 1024);
  ASSERT_EQ(Run({"cache", "simulate", "--trace", trace, "--memory", "0", "--disk", "1GiB", "--policy", "lru"}), 0);
  EXPECT_THAT(out_, HasSubstr("a cache without end would hit 50.00 %"));
  EXPECT_THAT(out_, HasSubstr("lru          50.00     100.0     100.0"));
}

TEST_F(CacheCommand, SimulateRefusesWhatItCannotUse) {
  const std::string trace = File("t.jsonl", kTrace);
  EXPECT_EQ(Run({"cache", "simulate", "--trace", trace, "--memory", "much"}), 2);
  EXPECT_THAT(err_, HasSubstr("--memory much: not a size"));
  EXPECT_EQ(Run({"cache", "simulate", "--trace", trace, "--policy", "clock"}), 2);
  EXPECT_THAT(err_, HasSubstr("saved-time, lru and s3-fifo"));
  EXPECT_EQ(Run({"cache", "simulate", "--trace", trace, "--bytes-per-token", "0"}), 2);
  EXPECT_EQ(Run({"cache", "simulate", "--trace", trace, "--prefill-rate", "0"}), 2);
  EXPECT_EQ(Run({"cache", "simulate"}), 2);
  EXPECT_EQ(Run({"cache"}), 2);
  EXPECT_EQ(Run({"cache", "simulate", "--trace", folder_ / "missing"}), 1);
  EXPECT_EQ(Run({"cache", "simulate", "--trace", File("bad.jsonl", "{}\n")}), 1);
  EXPECT_THAT(err_, HasSubstr("bad.jsonl: line 1: \"timestamp\""));
}

/// A folder with blocks of a tiny model, as a server leaves it.
class CacheFolderCommand : public CacheCommand {
 protected:
  void SetUp() override {
    auto model = ModelFile::Open(model_);
    ASSERT_TRUE(model) << model.error().message;
    const ModelConfig& config = (*model)->config();
    auto space = SpaceOf(**model, {DType::kBF16, config.num_hidden_layers, config.kv_values_per_token_layer()});
    ASSERT_TRUE(space) << space.error().message;
    space_ = *space;
    auto tokenizer = LoadTokenizer((*model)->tokenizer_source());
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    for (int i = 0; i < 60; ++i) text_ += "a word and another, ";
    prompt_ = EncodePrompt(**tokenizer, text_);
    ASSERT_GT(prompt_.size(), 150u);
    Keep("", prompt_);
    Keep("somebody", std::span(prompt_).first(100));
  }
  std::unique_ptr<KvCache> Open(KvPool& pool) {
    CacheOptions options;
    options.directory = cache_;
    options.disk_bytes = 1 << 30;
    auto cache = KvCache::Create(Env::Default(), space_, pool, options);
    EXPECT_TRUE(cache) << cache.error().message;
    return cache ? std::move(*cache) : nullptr;
  }
  void Keep(std::string_view tenant, std::span<const int32_t> tokens) {
    KvPool pool(space_.layout);
    const auto cache = Open(pool);
    KvSequence sequence(pool);
    ASSERT_TRUE(sequence.Reserve(std::ssize(tokens)));
    for (const KvBlockRef& block : sequence.blocks())
      std::memset(block->data(), 7, static_cast<size_t>(space_.layout.block_bytes()));
    sequence.SetLength(std::ssize(tokens));
    cache->Keep(tenant, tokens, sequence.blocks(), true, nullptr);
    ASSERT_TRUE(cache->Flush());
  }
  int Cache(std::vector<std::string> args) {
    args.insert(args.begin(), "cache");
    args.insert(args.end(), {"--cache-dir", cache_, "-m", model_});
    return Run(args);
  }
  nlohmann::json Json(std::vector<std::string> args) {
    args.push_back("--json");
    EXPECT_EQ(Cache(args), 0) << err_;
    return nlohmann::json::parse(out_, nullptr, false);
  }
  int64_t Blocks(size_t tokens) const { return static_cast<int64_t>((tokens + 63) / 64); }

  const std::string model_ = SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf";
  const std::string cache_ = folder_ / "kv";
  KvSpace space_;
  std::string text_;
  std::vector<int32_t> prompt_;
};

TEST_F(CacheFolderCommand, LsAndStat) {
  ASSERT_EQ(Run({"cache", "ls", "--cache-dir", cache_}), 0) << err_;
  EXPECT_THAT(out_, HasSubstr(ToHex(space_.Digest())));
  const int64_t blocks = Blocks(prompt_.size()) + 2;
  auto list = Json({"ls"});
  EXPECT_EQ(list["total"], blocks);
  EXPECT_EQ(std::ssize(list["blocks"]), std::min<int64_t>(blocks, 50));
  EXPECT_EQ(Json({"ls", "--limit", "1"})["blocks"].size(), 1u);
  EXPECT_EQ(Cache({"ls"}), 0);
  EXPECT_THAT(out_, HasSubstr("0-63"));
  const auto stat = Json({"stat"});
  EXPECT_EQ(stat["blocks"], blocks);
  EXPECT_EQ(stat["tokens"], prompt_.size() + 100);
  EXPECT_EQ(stat["tenants"].size(), 2u);
  EXPECT_EQ(stat["kv_type"], "bf16");
  EXPECT_EQ(Cache({"stat"}), 0);
}

TEST_F(CacheFolderCommand, ExplainSaysWhatIsKnown) {
  auto explained = Json({"explain", text_});
  EXPECT_EQ(explained["prompt_tokens"], prompt_.size());
  EXPECT_EQ(explained["known_tokens"], prompt_.size());
  EXPECT_EQ(explained["disk_tokens"], prompt_.size());
  EXPECT_EQ(explained["stretches"].size(), 1u);
  std::string ids;
  for (size_t i = 0; i < 150; ++i) ids += fmt::format("{}{}", i == 0 ? "" : ",", i < 100 ? prompt_[i] : 1);
  explained = Json({"explain", "--tokens", ids});
  EXPECT_EQ(explained["known_tokens"], 100);
  ASSERT_EQ(explained["stretches"].back()["known"], false);
  EXPECT_EQ(explained["stretches"].back()["begin"], 100);
  EXPECT_EQ(explained["stretches"].back()["end"], 150);
  explained = Json({"explain", "-f", File("prompt.txt", text_), "--tenant", "somebody"});
  EXPECT_EQ(explained["known_tokens"], 100);
  explained = Json({"explain", text_, "--tenant", "nobody"});
  EXPECT_EQ(explained["known_tokens"], 0);
  EXPECT_EQ(Cache({"explain", text_}), 0);
  EXPECT_THAT(out_, HasSubstr("kept"));
  EXPECT_EQ(Cache({"explain"}), 2);
  EXPECT_EQ(Cache({"explain", text_, "--tokens", "1"}), 2);
  EXPECT_EQ(Cache({"explain", "--tokens", "99999999"}), 2);
  EXPECT_EQ(Cache({"explain", "--messages", File("m.json", "[{\"role\": \"nobody\", \"content\": \"x\"}]")}), 2);
  EXPECT_THAT(err_, HasSubstr("message 1: \"role\""));
  EXPECT_EQ(Cache({"explain", "--messages", File("m.json", "{}")}), 2);
}

TEST_F(CacheFolderCommand, PinForgetAndVerify) {
  EXPECT_EQ(Json({"pin", text_})["blocks"], Blocks(prompt_.size()));
  EXPECT_EQ(Json({"stat"})["pinned"], Blocks(prompt_.size()));
  EXPECT_EQ(Json({"unpin", text_})["blocks"], Blocks(prompt_.size()));
  EXPECT_EQ(Json({"stat"})["pinned"], 0);
  EXPECT_EQ(Json({"verify"})["read_blocks"], Blocks(prompt_.size()) + 2);
  EXPECT_EQ(Json({"forget", text_})["forgotten_blocks"], Blocks(prompt_.size()));
  EXPECT_EQ(Json({"explain", text_})["known_tokens"], 0);
  EXPECT_EQ(Json({"forget", "--all", "--tenant", "somebody"})["forgotten_blocks"], 2);
  EXPECT_EQ(Json({"stat"})["blocks"], 0);
}

TEST_F(CacheFolderCommand, VerifyDropsDamagedBlocks) {
  const auto folder = std::filesystem::path(cache_) / ToHex(space_.Digest());
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::fstream file(entry.path(), std::ios::binary | std::ios::in | std::ios::out);
    int64_t slots = 0;  // whose headers stand before the rows
    file.seekg(56);
    file.read(reinterpret_cast<char*>(&slots), sizeof(slots));
    file.seekp(4096 + slots * 4096);  // rows of the first slot
    file.put('x');
  }
  EXPECT_EQ(Cache({"verify"}), 1);
  EXPECT_THAT(err_, HasSubstr("1 blocks were damaged"));
  EXPECT_EQ(Cache({"verify"}), 0) << err_;
}

TEST_F(CacheFolderCommand, GcNeedsToKnowWhatIsTooMuch) {
  EXPECT_EQ(Cache({"gc"}), 2);
  EXPECT_EQ(Cache({"gc", "--disk", "0"}), 2);
  EXPECT_EQ(Cache({"gc", "--ttl", "-1"}), 2);
  EXPECT_EQ(Json({"gc", "--ttl", "1"})["expired_blocks"], 0);
  EXPECT_EQ(Json({"stat"})["blocks"], Blocks(prompt_.size()) + 2);
}

TEST_F(CacheFolderCommand, AServersFolderIsRefusedWithAdvice) {
  KvPool pool(space_.layout);
  const auto server = Open(pool);
  EXPECT_EQ(Cache({"stat"}), 1);
  EXPECT_THAT(err_, HasSubstr("in use by another"));
  EXPECT_THAT(err_, HasSubstr("/v1/cache"));
  EXPECT_EQ(Run({"cache", "ls", "--cache-dir", cache_}), 0);  // needs no lock
}

TEST_F(CacheFolderCommand, WrongFoldersAndModelsAreNamed) {
  EXPECT_EQ(Run({"cache", "ls", "--cache-dir", folder_ / "none"}), 1);
  EXPECT_THAT(err_, HasSubstr("no such cache folder"));
  EXPECT_EQ(Run({"cache", "ls", "--cache-dir", folder_.path().string()}), 1);
  EXPECT_THAT(err_, HasSubstr("is not a cache folder"));
  EXPECT_EQ(Cache({"stat", "--kv-type", "f16"}), 1);
  EXPECT_THAT(err_, HasSubstr("holds nothing of this model in f16"));
  EXPECT_EQ(Cache({"stat", "--kv-type", "int3"}), 2);
}

}  // namespace
}  // namespace fathom
