// Checkpoints of a run, and exports of its model (docs/formats/checkpoint.md).
//
// A checkpoint is a folder `step-00001234` that holds a Hugging Face model directory (config.json, model.safetensors in
// f32, the tokenizer's files), optimizer.safetensors, and state.json, which names the others with their sizes and XXH3
// hashes. It is written under another name and renamed when everything is on disk, so a folder with the right name is
// whole; one that was damaged later is recognised by its hashes and passed over. Tensors that are sharded over ranks are
// gathered, so a run may go on with another number of ranks.
//
// Errors: kResource (disk full), kIo, kCorrupt (naming the file), kNotFound. Nothing here throws.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"
#include "train/torch/module.h"
#include "train/torch/optimizer.h"

namespace fathom::train {

struct CheckpointInfo {
  std::string path;
  int64_t step = 0;
};

/// The tokenizer files that stand beside a model, by path of the tokenizer.json.
struct ExportFiles {
  std::string tokenizer_json;  // empty: none is copied
  int32_t bos = -1, eos = -1, pad = -1;
};

/// Writes the model as a Hugging Face directory. dtype: kF32 or kBF16. Collective; rank 0 writes.
Status ExportModel(TrainModel& model, const std::string& folder, DType dtype, const ExportFiles& files);

/// Writes a checkpoint into `folder` and removes all but the newest `keep`. state: the trainer's own, stored as it is.
/// Weights that are no numbers are refused (kInternal). Collective.
Result<CheckpointInfo> SaveCheckpoint(const std::string& folder, int64_t step, TrainModel& model, Optimizer& optimizer,
                                      const nlohmann::json& state, const ExportFiles& files, int keep);

/// The newest whole checkpoint in `folder`; nullopt when there is none. Damaged ones are named in `passed_over`.
std::optional<CheckpointInfo> NewestCheckpoint(const std::string& folder, std::vector<std::string>& passed_over);

/// Loads it into model and optimizer (their shapes must agree) and gives the trainer's state back.
Result<nlohmann::json> LoadCheckpoint(const CheckpointInfo& checkpoint, TrainModel& model, Optimizer& optimizer);

/// Weights alone, from any directory or GGUF of the same shape (to start a run from a trained model).
Status LoadWeights(const std::string& path, TrainModel& model);

}  // namespace fathom::train
