// Weights read into memory of one's own: the same bytes, where they should be, and what happens when reading fails.
#include "engine/resident_model.h"

#include <gtest/gtest.h>

#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/source_dir_for_test.h"
#include "engine/fingerprint.h"
#include "experts/expert_layout.h"
#include "format/tensor_role.h"
#include "io/fault_env.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

const std::string kFolder = SourceDirForTest() + "/tests/golden/";

std::string NameOf(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param.substr(info.param.find('/') + 1, 8);
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return info.param.substr(0, info.param.find('/')) + "_" + name;
}

class ResidentModelTest : public testing::TestWithParam<std::string> {
 protected:
  static std::unique_ptr<ModelFile> Open(const std::string& path) {
    auto file = ModelFile::Open(path);
    EXPECT_TRUE(file) << file.error().message;
    return file ? std::move(*file) : nullptr;
  }
  const std::string path_ = kFolder + GetParam();
};
INSTANTIATE_TEST_SUITE_P(Models, ResidentModelTest,
                         testing::Values("gguf/v3-mainline.gguf", "gguf/v3-split-00001-of-00003.gguf", "gguf/llama.gguf",
                                         "hf/v2lite", "hf/v3_fp8"),
                         NameOf);

TEST_P(ResidentModelTest, HasTheSameBytes) {
  const auto mapped = Open(path_);
  for (const bool experts : {true, false}) {
    const int64_t foretold = ResidentModel::BytesOf(*mapped, {.experts = experts, .mtp = true});
    auto resident = ResidentModel::Load(Open(path_), Env::Default(), {.experts = experts, .mtp = true}, {});
    ASSERT_TRUE(resident) << resident.error().message;
    EXPECT_EQ((*resident)->resident_bytes(), std::max(foretold, int64_t{2} << 20));
    ASSERT_EQ((*resident)->tensors().size(), mapped->tensors().size());
    for (size_t i = 0; i < mapped->tensors().size(); ++i) {
      const TensorInfo& want = mapped->tensors()[i];
      const TensorInfo* got = (*resident)->Find(want.name);
      ASSERT_NE(got, nullptr) << want.name;
      EXPECT_EQ(got->shape, want.shape);
      const bool routed = RoleOf(mapped->config(), want.name) == TensorRole::kRoutedExpert;
      if (experts || !routed) {
        EXPECT_EQ(std::memcmp(got->data, want.data, static_cast<size_t>(want.bytes)), 0) << want.name;
      }
      // By Read(), wherever it is.
      std::vector<std::byte> bytes(static_cast<size_t>(want.bytes));
      ASSERT_TRUE((*resident)->Read(*got, 0, bytes)) << want.name;
      EXPECT_EQ(std::memcmp(bytes.data(), want.data, bytes.size()), 0) << want.name;
      if (want.bytes > 10) {
        bytes.resize(7);
        ASSERT_TRUE((*resident)->Read(*got, want.bytes - 9, bytes));
        EXPECT_EQ(std::memcmp(bytes.data(), want.data + want.bytes - 9, bytes.size()), 0) << want.name;
      }
    }
    EXPECT_EQ((*resident)->Find("nothing of this name"), nullptr);
    EXPECT_EQ(*ModelFingerprint(**resident), *ModelFingerprint(*mapped));
    EXPECT_TRUE((*resident)->CheckUnchanged());
    EXPECT_EQ((*resident)->files().size(), mapped->files().size());
  }
}

TEST_P(ResidentModelTest, TellsOfItsProgressAndStops) {
  int64_t last = 0, all = 0;
  ASSERT_TRUE(ResidentModel::Load(Open(path_), Env::Default(), {}, [&](int64_t done, int64_t total) {
    EXPECT_GE(done, last);
    last = done;
    all = total;
    return true;
  }));
  EXPECT_EQ(last, all);
  const auto stopped = ResidentModel::Load(Open(path_), Env::Default(), {}, [](int64_t, int64_t) { return false; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
}

TEST(ResidentModel, ReadErrorsAreTriedAgainAndThenSaid) {
  const TempFolderForTest folder;
  const std::string path = folder / "model.gguf";
  std::filesystem::copy_file(kFolder + "gguf/v3-mainline.gguf", path);
  FaultEnv env(Env::Default());
  auto file = ModelFile::Open(path, env);
  ASSERT_TRUE(file) << file.error().message;
  env.ChangeDirect([](DirectFaults& faults) { faults.fail_reads_from = 0; });
  const auto failed = ResidentModel::Load(std::move(*file), env, {}, {});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kIo);
  EXPECT_NE(failed.error().message.find(path), std::string::npos) << failed.error().message;
  EXPECT_GE(env.direct_counts().reads, 3);
}

TEST(ResidentModel, AFileThatShrankIsCorrupt) {
  const TempFolderForTest folder;
  const std::string path = folder / "model.gguf";
  std::filesystem::copy_file(kFolder + "gguf/v3-mainline.gguf", path);
  auto file = ModelFile::Open(path);
  ASSERT_TRUE(file);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  const auto failed = ResidentModel::Load(std::move(*file), Env::Default(), {}, {});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace fathom
