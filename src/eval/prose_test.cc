#include "eval/prose.h"
#include "base/source_dir_for_test.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numbers>

namespace fathom {
namespace {

std::string Sentences(int count) {
  static constexpr const char* kWho[] = {"the miller", "a grey cat", "her brother", "the old clock"};
  static constexpr const char* kDoes[] = {"waits for", "never saw", "remembers", "walks past"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += kWho[(i * i + 3) % 4];
    text += " ";
    text += kDoes[(i * 7 + i / 3) % 4];
    text += " ";
    text += kWho[(i / 5 + i) % 4];
    text += ".\n";
  }
  return text;
}

class TempFile {
 public:
  explicit TempFile(const std::string& text)
      : path_(testing::TempDir() + "fathom_prose_" + std::to_string(reinterpret_cast<uintptr_t>(this)) +
              std::to_string(::getpid())) {
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~TempFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(XzSize, IsThatOfTheCommand) {
  const std::string text = Sentences(2000);
  const auto size = XzSize(text);
  ASSERT_TRUE(size);
  EXPECT_LT(*size, static_cast<int64_t>(text.size()) / 5);
  EXPECT_EQ(*size % 4, 0);  // xz streams are padded to four bytes
  const TempFile file(text);
  const std::string count = file.path() + ".size";
  if (std::system(("xz -9 -T1 -c " + file.path() + " 2>/dev/null | wc -c > " + count).c_str()) != 0) GTEST_SKIP();
  int64_t by_command = 0;
  std::ifstream(count) >> by_command;
  std::filesystem::remove(count);
  if (by_command == 0) GTEST_SKIP() << "there is no xz command here";
  EXPECT_EQ(*size, by_command);
}

TEST(Ngram, FilesInPiecesAndBitsPerByte) {
  const std::string text = Sentences(600);
  const TempFile first(text.substr(0, 9000)), second(text.substr(9000));
  int64_t read = 0;
  const auto model = TrainNgram(5, nullptr, std::vector{first.path(), second.path()}, 64 << 20, read);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_EQ(read, static_cast<int64_t>(text.size()));
  const ProseCost seen = MeasureNgram(*model, nullptr, Sentences(20));
  EXPECT_LT(seen.bits_per_byte, 1.0);
  EXPECT_GT(MeasureNgram(*model, nullptr, "QXJ 93 !! ZZ").bits_per_byte, 6.0);
  EXPECT_FALSE(TrainNgram(5, nullptr, std::vector<std::string>{"/nonexistent.txt"}, 64 << 20, read));
  const auto stopped =
      TrainNgram(5, nullptr, std::vector{first.path()}, 64 << 20, read, [](int64_t, int64_t) { return false; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
}

TEST(Ngram, PackedFilesAreTheirText) {
  const std::string text = Sentences(400);
  const TempFile plain(text);
  const std::string packed = plain.path() + ".xz";
  if (std::system(("xz -9 -c " + plain.path() + " > " + packed + " 2>/dev/null").c_str()) != 0) GTEST_SKIP();
  int64_t read = 0, read_packed = 0;
  const auto a = TrainNgram(4, nullptr, std::vector{plain.path()}, 64 << 20, read);
  const auto b = TrainNgram(4, nullptr, std::vector{packed}, 64 << 20, read_packed);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(read, read_packed);
  EXPECT_EQ(MeasureNgram(*a, nullptr, "the miller").bits_per_byte,
            MeasureNgram(*b, nullptr, "the miller").bits_per_byte);
  std::filesystem::resize_file(packed, std::filesystem::file_size(packed) - 9);  // cut short
  const auto cut = TrainNgram(4, nullptr, std::vector{packed}, 64 << 20, read);
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code, ErrorCode::kCorrupt);
  std::filesystem::remove(packed);
}

class ProseModel : public testing::Test {
 protected:
  void SetUp() override {
    auto engine = Engine::Load(SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf",
                               {.threads = 1, .context_length = 64, .kv_type = KvType::kF32});
    ASSERT_TRUE(engine);
    engine_ = std::move(*engine);
    if (engine_->tokenizer() == nullptr) GTEST_SKIP() << engine_->tokenizer_error();
  }
  std::unique_ptr<Engine> engine_;
};

TEST_F(ProseModel, EveryTokenIsCountedOnce) {
  const std::string text = Sentences(8);
  // By hand: all tokens in one window.
  const Tokenizer& tokenizer = *engine_->tokenizer();
  std::vector<TokenId> ids = {tokenizer.bos_id() >= 0 ? tokenizer.bos_id() : tokenizer.eos_id()};
  ASSERT_GE(ids[0], 0);
  tokenizer.Encode(text.substr(0, 40), TextTrust::kUser, ids);
  ASSERT_LE(ids.size(), 64u);
  auto session = std::move(*engine_->NewSession());
  std::vector<float> logits;
  ASSERT_TRUE(session->EvalAll(ids, logits));
  const auto vocab = static_cast<size_t>(engine_->config().vocab_size);
  double nats = 0;
  for (size_t i = 0; i + 1 < ids.size(); ++i)
    nats += NegativeLogLikelihood(std::span<const float>(logits).subspan(i * vocab, vocab), ids[i + 1]);
  const auto whole = MeasureModel(*engine_, text.substr(0, 40), 64, 32);
  ASSERT_TRUE(whole) << whole.error().message;
  EXPECT_NEAR(whole->bits_per_byte, nats / std::numbers::ln2 / 40, 1e-4);
  EXPECT_EQ(whole->symbols, static_cast<int64_t>(ids.size()) - 1);
  EXPECT_EQ(whole->bytes, 40);

  const auto sliding = MeasureModel(*engine_, text, 32, 16);
  ASSERT_TRUE(sliding);
  EXPECT_GT(sliding->bits_per_byte, 1);
  EXPECT_FALSE(MeasureModel(*engine_, "", 32, 16));
}

TEST_F(ProseModel, NgramsOverItsTokens) {
  const TempFile file(Sentences(400));
  int64_t read = 0;
  const auto model = TrainNgram(3, engine_->tokenizer(), std::vector{file.path()}, 64 << 20, read);
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_LT(MeasureNgram(*model, engine_->tokenizer(), Sentences(20)).bits_per_byte, 1.5);
}

}  // namespace
}  // namespace fathom
