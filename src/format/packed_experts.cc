#include "format/packed_experts.h"

#include <fmt/format.h>

namespace fathom {

std::string PackedExpertName(int layer, int64_t expert, std::string_view part) {
  return fmt::format("blk.{}.ffn_{}_exps.{}.weight", layer, part, expert);
}

bool HasPackedExperts(const ModelFile& file, int layer) {
  return file.format() == ModelFormat::kGguf && file.Find(PackedExpertName(layer, 0, "gate")) != nullptr;
}

}  // namespace fathom
