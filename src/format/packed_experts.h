// Names of experts' matrices in a packed GGUF (docs/formats/packed-experts.md): one tensor for each matrix of each expert, an
// expert's three side by side, in place of one stack for all experts of a layer. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "format/model_file.h"

namespace fathom {

inline constexpr int64_t kPackedAlignment = 4096;  // where a packed file's tensors begin

/// "blk.3.ffn_gate_exps.12.weight". part: "gate", "up" or "down".
std::string PackedExpertName(int layer, int64_t expert, std::string_view part);

/// Whether this layer's experts are stored so.
bool HasPackedExperts(const ModelFile& file, int layer);

}  // namespace fathom
