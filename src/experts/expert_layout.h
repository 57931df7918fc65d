// Where each expert's three matrices lie in a model's files, and where they come to lie in a slot.
//
// An expert is read in as few reads as its parts allow (parts closer together than kGap are one read), each from the
// 4096-aligned offset below its first byte to the one above its last; in the slot it keeps its position within the page,
// so nothing is moved after it arrives. Works for GGUF stacks (ffn_{gate,up,down}_exps, fused ffn_gate_up_exps), for packed
// GGUFs (docs/formats/packed-experts.md) and for Hugging Face's one tensor an expert, FP8 scales included.
//
// Immutable, thread-safe. Keeps nothing of the ModelFile.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "experts/expert_id.h"
#include "format/model_file.h"
#include "tensor/view.h"

namespace fathom {

struct ExpertViews {
  WeightView gate, up;  // [moe_intermediate, hidden]
  WeightView down;      // [hidden, moe_intermediate]
};

/// All of it in multiples of 4096.
struct ExpertRead {
  int32_t file = 0;  // of files()
  int64_t offset = 0, bytes = 0;
  int64_t slot_offset = 0;
};

/// Layers whose experts are about equally large share a kind of slots: quantisation recipes give some layers' down
/// projections more bits (Q4_K_M: every other layer or so), and slots for the largest would waste a tenth of the others'.
struct SlotClass {
  int64_t slot_bytes = 0;  // a multiple of 4096 that each of its experts fits in
  int32_t layers = 0;      // that it is for
};

class ExpertLayout {
 public:
  static constexpr int64_t kPage = 4096;
  static constexpr int64_t kGap = 64 << 10;  // bytes read in vain rather than with another read

  /// Errors: kUnsupported (a dense model; a type or an alignment that cannot be computed with in place), kCorrupt (a
  /// tensor is missing or has the wrong shape).
  static Result<ExpertLayout> Create(const ModelFile& file);

  const ExpertGeometry& geometry() const { return geometry_; }
  int32_t first_layer() const { return first_layer_; }  // the model's layer that is MoE layer 0
  std::span<const std::string> files() const { return files_; }
  /// From the largest slots to the smallest; at most top_k.
  std::span<const SlotClass> slot_classes() const { return classes_; }
  int32_t SlotClassOf(int32_t layer) const { return class_of_[layer]; }
  /// How many of so many slots are of each class: as many as its layers are of all. All of `slots`, but for rounding where
  /// nearly all experts have one. REQUIRES: slots >= top_k (then each class has one at least).
  std::vector<int64_t> SlotsByClass(int64_t slots) const;
  /// A multiple of 4096; slots, shared out so, take at most slots * slot_bytes().
  int64_t slot_bytes() const { return slot_bytes_; }
  int64_t largest_slot_bytes() const { return classes_.front().slot_bytes; }
  int64_t total_bytes() const { return total_bytes_; }    // of all experts' matrices
  std::span<const ExpertRead> Reads(ExpertId id) const {
    return std::span(reads_).subspan(first_read_[id], first_read_[id + 1] - first_read_[id]);
  }
  /// The matrices of an expert that lies in `slot`.
  ExpertViews Views(ExpertId id, const std::byte* slot) const;

 private:
  struct Part {
    int32_t file = 0;
    int64_t offset = 0, bytes = 0;
  };
  struct Place {
    int64_t gate = 0, up = 0, down = 0;                     // in the slot
    int64_t gate_scale = -1, up_scale = -1, down_scale = -1;
  };
  struct LayerShape {
    WeightView gate, up, down;  // without data
  };
  struct Source;  // of one matrix of a layer's experts

  /// Returns the bytes of a slot that it fits in.
  int64_t AddExpert(const std::vector<Part>& parts, std::vector<int64_t>* at);
  void MakeSlotClasses(std::span<const int64_t> layer_bytes);

  ExpertGeometry geometry_;
  int32_t first_layer_ = 0;
  std::vector<std::string> files_;
  int64_t slot_bytes_ = 0, total_bytes_ = 0;
  std::vector<SlotClass> classes_;
  std::vector<int32_t> class_of_;    // by layer
  std::vector<LayerShape> shapes_;   // by layer
  std::vector<Place> places_;        // by expert
  std::vector<ExpertRead> reads_;
  std::vector<int32_t> first_read_;  // by expert, and one more
};

}  // namespace fathom
