// A packed GGUF is the same model, and each of its experts is one read.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "base/source_dir_for_test.h"
#include "engine/convert.h"
#include "engine/engine.h"
#include "experts/expert_layout.h"
#include "format/check.h"
#include "format/packed_experts.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

const std::string kFolder = SourceDirForTest() + "/tests/golden/";

Result<std::vector<float>> Logits(const std::string& path, int64_t memory) {
  EngineOptions options{.threads = 2, .context_length = 100};
  options.experts.memory_bytes = memory;
  FATHOM_TRY(const auto engine, Engine::Load(path, options));
  FATHOM_TRY(const auto session, engine->NewSession());
  std::vector<TokenId> ids(30);
  for (int i = 0; i < 30; ++i) ids[i] = 10 + (i * 37 + 5) % 200;
  std::vector<float> all, one;
  FATHOM_CHECK_OK(session->EvalAll(std::span(ids).first(27), all));
  for (int i = 27; i < 30; ++i) {
    FATHOM_CHECK_OK(session->EvalAll(std::span(ids).subspan(i, 1), one));
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

class PackTest : public testing::Test {
 protected:
  Result<ConvertSummary> Pack(const std::string& source, bool keep, const std::string& type = "bf16") {
    return ConvertModel({.source = source, .output = packed_, .type = type, .keep_types = keep, .pack = true, .threads = 2,
                         .reserve_bytes = 0, .overwrite = true});
  }
  const TempFolderForTest folder_;
  const std::string packed_ = folder_ / "packed.gguf";
};

TEST_F(PackTest, TheSameModelInOneReadAnExpert) {
  for (const char* name : {"gguf/v3-mainline.gguf", "gguf/v2lite-mainline.gguf", "gguf/v3-split-00001-of-00003.gguf"}) {
    const std::string source = kFolder + name;
    const auto summary = Pack(source, true);
    ASSERT_TRUE(summary) << summary.error().message;
    const auto before = ModelFile::Open(source), after = ModelFile::Open(packed_);
    ASSERT_TRUE(before && after) << after.error().message;
    EXPECT_TRUE(CheckModel(**after, {}).problems.empty());
    EXPECT_EQ((*after)->tensor_bytes(), (*before)->tensor_bytes());
    for (const TensorInfo& tensor : (*after)->tensors()) EXPECT_EQ(tensor.offset % kPackedAlignment, 0) << tensor.name;

    const auto stacks = ExpertLayout::Create(**before), single = ExpertLayout::Create(**after);
    ASSERT_TRUE(stacks && single) << single.error().message;
    EXPECT_EQ(single->total_bytes(), stacks->total_bytes());
    const ExpertGeometry geometry = single->geometry();
    EXPECT_EQ(geometry, stacks->geometry());
    for (ExpertId id = 0; id < geometry.count(); ++id) {
      ASSERT_EQ(single->Reads(id).size(), 1u);
      // Its three matrices, and no page of a neighbour's.
      const ExpertRead& read = single->Reads(id).front();
      const int layer = single->first_layer() + geometry.LayerOf(id);
      for (const char* part : {"gate", "up", "down"}) {
        const TensorInfo* tensor = (*after)->Find(PackedExpertName(layer, geometry.ExpertOf(id), part));
        ASSERT_NE(tensor, nullptr);
        EXPECT_GE(tensor->offset, read.offset);
        EXPECT_LE(tensor->offset + tensor->bytes, read.offset + read.bytes);
        const TensorInfo* stack = (*before)->Find(fmt::format("blk.{}.ffn_{}_exps.weight", layer, part));
        ASSERT_NE(stack, nullptr);
        EXPECT_EQ(std::memcmp(tensor->data, stack->data + geometry.ExpertOf(id) * tensor->bytes,
                              static_cast<size_t>(tensor->bytes)), 0);
      }
      for (ExpertId other = 0; other < id; ++other) {
        const ExpertRead& theirs = single->Reads(other).front();
        EXPECT_TRUE(theirs.offset + theirs.bytes <= read.offset || read.offset + read.bytes <= theirs.offset);
      }
    }
    const auto expected = Logits(source, 0);
    ASSERT_TRUE(expected);
    for (const int64_t memory : {int64_t{0}, 2 * geometry.top_k * single->slot_bytes(), int64_t{1} << 30}) {
      const auto logits = Logits(packed_, memory);
      ASSERT_TRUE(logits) << logits.error().message;
      EXPECT_TRUE(*logits == *expected) << memory;
    }
    // Not twice.
    ConvertOptions again{.source = packed_, .output = folder_ / "again.gguf", .keep_types = true, .pack = true};
    const auto refused = ConvertModel(again);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("packed already"), std::string::npos) << refused.error().message;
  }
}

TEST_F(PackTest, FromHuggingFaceAndQuantised) {
  const std::string source = kFolder + "hf/v2lite";
  const std::string plain = folder_ / "plain.gguf";
  ASSERT_TRUE(ConvertModel({.source = source, .output = plain, .type = "q8_0", .threads = 2, .reserve_bytes = 0}));
  const auto summary = Pack(source, false, "q8_0");
  ASSERT_TRUE(summary) << summary.error().message;
  const auto expected = Logits(plain, 0), logits = Logits(packed_, 0);
  ASSERT_TRUE(expected && logits);
  EXPECT_TRUE(*logits == *expected);
  EXPECT_EQ(Pack(source, true).error().code, ErrorCode::kInvalidArgument);  // no types to keep
  EXPECT_EQ(Pack(kFolder + "gguf/llama.gguf", true).error().code, ErrorCode::kInvalidArgument);  // dense
}

TEST_F(PackTest, MissingExpertsAreNamed) {
  ASSERT_TRUE(Pack(kFolder + "gguf/v2lite-mainline.gguf", true));
  std::string bytes;
  {
    std::ifstream in(packed_, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  const std::string name = "blk.1.ffn_up_exps.5.weight";
  const size_t at = bytes.find(name);
  ASSERT_NE(at, std::string::npos);
  bytes[at + name.size() - 8] = '7';  // "5" becomes a "7" that there is already, or at least no "5"
  std::ofstream(packed_, std::ios::binary) << bytes;
  const auto engine = Engine::Load(packed_, {.threads = 1});
  ASSERT_FALSE(engine);
  EXPECT_NE(engine.error().message.find("ffn_up_exps."), std::string::npos) << engine.error().message;
}

}  // namespace
}  // namespace fathom
