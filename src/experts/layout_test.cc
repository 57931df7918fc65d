// Where experts lie, and memory for slots.
#include <gtest/gtest.h>

#include "experts/expert_layout.h"
#include "experts/model_for_test.h"
#include "experts/slot_memory.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

using Kind = ExpertModelForTest::Kind;

class EveryLayout : public testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Experts, EveryLayout,
                         testing::Values(Kind::kStacks, Kind::kFused, Kind::kPerExpert, Kind::kFp8, Kind::kUneven));

TEST_P(EveryLayout, FindsEveryExpert) {
  const TempFolderForTest folder;
  const ExpertModelForTest model(folder / "m", GetParam());
  const auto layout = ExpertLayout::Create(model);
  ASSERT_TRUE(layout) << layout.error().message;
  const int32_t layers = GetParam() == Kind::kUneven ? 4 : 3;
  EXPECT_EQ(layout->geometry(), (ExpertGeometry{layers, 8, 2}));
  EXPECT_EQ(layout->first_layer(), 1);
  EXPECT_EQ(layout->slot_bytes() % 4096, 0);
  std::vector<std::byte> slot(layout->largest_slot_bytes());
  for (ExpertId id = 0; id < layers * 8; ++id) {
    // As if read.
    std::fill(slot.begin(), slot.end(), std::byte{0});
    int64_t end = 0;
    for (const ExpertRead& read : layout->Reads(id)) {
      EXPECT_EQ(read.offset % 4096 + read.bytes % 4096 + read.slot_offset % 4096, 0);
      EXPECT_GE(read.slot_offset, end);  // reads do not overlap in the slot
      end = read.slot_offset + read.bytes;
      ASSERT_LE(end, layout->largest_slot_bytes());
      for (int64_t i = 0; i < read.bytes; ++i)
        slot[read.slot_offset + i] = ExpertModelForTest::At(read.offset + i);
    }
    const ExpertViews views = layout->Views(id, slot.data());
    EXPECT_TRUE(model.Holds(views, id / 8, id % 8)) << id;
    EXPECT_EQ(views.gate.rows, ExpertModelForTest::kInner);
    EXPECT_EQ(views.down.cols, ExpertModelForTest::kInner);
    const bool adjacent = GetParam() == Kind::kPerExpert || GetParam() == Kind::kFp8;
    EXPECT_EQ(layout->Reads(id).size(), adjacent ? 1u : GetParam() == Kind::kFused ? 2u : 3u) << id;
  }
}

TEST(ExpertLayout, LayersOfAboutEqualSizeShareAClassOfSlots) {
  const TempFolderForTest folder;
  for (const Kind kind : {Kind::kStacks, Kind::kFused, Kind::kPerExpert, Kind::kFp8}) {
    const auto layout = ExpertLayout::Create(ExpertModelForTest(folder / "m", kind));
    ASSERT_TRUE(layout);
    EXPECT_EQ(layout->slot_classes().size(), 1u);
    EXPECT_EQ(layout->slot_classes()[0].layers, 3);
    EXPECT_EQ(layout->SlotsByClass(7), std::vector<int64_t>{7});
    EXPECT_EQ(layout->slot_bytes(), layout->largest_slot_bytes());
  }
  const ExpertModelForTest model(folder / "m", Kind::kUneven);
  const auto layout = ExpertLayout::Create(model);
  ASSERT_TRUE(layout);
  const auto classes = layout->slot_classes();
  ASSERT_EQ(classes.size(), 2u);
  EXPECT_EQ(classes[0].layers, 2);
  EXPECT_EQ(classes[1].layers, 2);
  const int64_t matrix = 2 * ExpertModelForTest::kInner * ExpertModelForTest::kHidden;
  EXPECT_GE(classes[0].slot_bytes, 4 * matrix);
  EXPECT_LT(classes[1].slot_bytes, 4 * matrix);
  for (ExpertId id = 0; id < 32; ++id) {
    const int32_t layer = id / 8;
    EXPECT_EQ(layout->SlotClassOf(layer), model.Large(layer) ? 0 : 1);
    const ExpertRead& last = layout->Reads(id).back();
    EXPECT_LE(last.slot_offset + last.bytes, classes[layout->SlotClassOf(layer)].slot_bytes);
  }
  for (int64_t slots = 2; slots <= 32; ++slots) {
    const auto by_class = layout->SlotsByClass(slots);
    EXPECT_EQ(by_class[0] + by_class[1], slots);
    EXPECT_GE(std::min(by_class[0], by_class[1]), 1);
    EXPECT_LE(std::max(by_class[0], by_class[1]), 16);
    EXPECT_LE(by_class[0] * classes[0].slot_bytes + by_class[1] * classes[1].slot_bytes, slots * layout->slot_bytes());
  }
}

TEST(ExpertLayout, RefusesWhatCannotBe) {
  const TempFolderForTest folder;
  auto code = [&](const ModelFile& model) { return ExpertLayout::Create(model).error().code; };
  ExpertModelForTest dense(folder / "m");
  dense.config().moe = {};
  EXPECT_EQ(code(dense), ErrorCode::kUnsupported);
  ExpertModelForTest shape(folder / "m");
  shape.tensors()[1].shape[2] = 32;
  EXPECT_EQ(code(shape), ErrorCode::kCorrupt);
  ExpertModelForTest missing(folder / "m");
  missing.tensors().pop_back();
  EXPECT_EQ(code(missing), ErrorCode::kCorrupt);
  ExpertModelForTest odd(folder / "m", Kind::kPerExpert);
  odd.tensors()[4].offset += 1;
  EXPECT_EQ(code(odd), ErrorCode::kUnsupported);
  ExpertModelForTest type(folder / "m");
  type.tensors()[0].dtype = DType::kI16;
  EXPECT_EQ(code(type), ErrorCode::kUnsupported);
  ExpertModelForTest mixed(folder / "m", Kind::kPerExpert);
  mixed.tensors()[4].dtype = DType::kF16;
  EXPECT_EQ(code(mixed), ErrorCode::kUnsupported);
  ExpertModelForTest scale(folder / "m", Kind::kFp8);
  scale.tensors()[1].shape = {1};
  EXPECT_EQ(code(scale), ErrorCode::kCorrupt);
  ExpertModelForTest layers(folder / "m");
  layers.config().moe.first_k_dense_replace = 9;
  EXPECT_EQ(code(layers), ErrorCode::kInvalidArgument);
}

TEST(SlotMemory, GrowsAndShrinks) {
  EXPECT_EQ(SlotMemory::Reserve(100, 4).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(SlotMemory::Reserve(4096, INT64_MAX / 4).error().code, ErrorCode::kInvalidArgument);
  auto memory = SlotMemory::Reserve(12288, 1000);
  ASSERT_TRUE(memory);
  EXPECT_EQ((*memory)->Resize(1001).error().code, ErrorCode::kInvalidArgument);
  ASSERT_TRUE((*memory)->Resize(10));
  for (int s = 0; s < 10; ++s) std::memset((*memory)->slot(s), s + 1, 12288);
  ASSERT_TRUE((*memory)->Resize(1000));
  std::memset((*memory)->slot(999), 7, 12288);
  for (int s = 0; s < 10; ++s) EXPECT_EQ((*memory)->slot(s)[12287], static_cast<std::byte>(s + 1));
  ASSERT_TRUE((*memory)->Resize(5));
  EXPECT_EQ((*memory)->slot(4)[12287], std::byte{5});
  ASSERT_TRUE((*memory)->Resize(10));
  EXPECT_EQ((*memory)->slot(5)[0], std::byte{0});  // given back meanwhile
  EXPECT_EQ((*memory)->bytes(), 122880);
}

}  // namespace
}  // namespace fathom
