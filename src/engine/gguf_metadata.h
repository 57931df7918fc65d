// GGUF metadata of a model: the keys that llama.cpp's converter writes (conversion/base.py and deepseek.py, 2026-10;
// docs/formats/gguf.md). What `synth` and `convert` share. Pure functions.
#pragma once

#include <cstdint>
#include <string_view>

#include "engine/gguf_layout.h"
#include "format/gguf_writer.h"
#include "format/model_config.h"

namespace fathom {

/// Everything that follows from the configuration, as ARCHITECTURE.*, and general.file_type (llama_ftype's number);
/// general.architecture itself and other general.* keys are the caller's. mtp: the MTP layers are in the file.
void AddModelMetadata(const ModelConfig& config, std::string_view architecture, int32_t file_type, GgufLayout layout,
                      bool mtp, GgufWriter& writer);

}  // namespace fathom
