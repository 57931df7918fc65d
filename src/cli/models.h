// Where models live on this machine and what the words after -m mean.
//
// Pulled models are in $XDG_DATA_HOME/fathom/models (default ~/.local/share/fathom/models): NAME.gguf for the
// catalogue's, OWNER/REPO/… for the hub's. Reads the environment; not thread-safe against setenv.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace fathom {

/// The models folder; it need not exist. Errors: kNotFound when neither XDG_DATA_HOME nor HOME is set.
Result<std::filesystem::path> ModelsFolder();

/// The model that comes with the program, by the name "fathom-nano": models/fathom-nano/*.gguf beside the build folder
/// that the program stands in, or ../share/fathom/models/fathom-nano/*.gguf from its folder. Empty when there is none.
std::string EmbeddedModel();

/// A path as it is; else a pulled model's name, or "fathom-nano"; empty: $FATHOM_MODEL, else smollm2-135m if it was
/// pulled, else the only pulled model, else fathom-nano. Errors: kNotFound with what there is, and how to get one.
Result<std::string> ResolveModel(const std::string& name);

/// Names that ResolveModel understands, sorted.
std::vector<std::string> PulledModels();

}  // namespace fathom
