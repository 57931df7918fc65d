// Whether files opened by their paths are those that a model was opened from: between the two somebody may have put others in
// their place.
#pragma once

#include "base/result.h"
#include "experts/model_files.h"
#include "format/model_file.h"

namespace fathom {

/// Compares samples of each file's tensors with ModelFile::Read(); whatever that brought into the page cache is let go.
/// Errors: kCorrupt, naming file and tensor; those of reading.
Status CheckSameFiles(const ModelFile& model, const ModelFiles& files);

}  // namespace fathom
