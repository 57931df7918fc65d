// What a model is, for cache keys: two models with the same fingerprint give the same keys and values (DESIGN §2.2).
//
// SHA-256 over, in this order and each text with its length: a version word; the configuration fields that change
// arithmetic (not names, and not the context length that it was trained for); and for every tensor, sorted by name: its
// name, type, shape, size, and its first, middle and last 4 KiB (all of it when it is smaller than 12 KiB). A few MB
// are read, whatever the model's size. Names of files and metadata do not count: the same weights under another name
// share their cache, and a requantised file under the same name does not.
//
// Not a proof against somebody who edits weights between the samples on purpose; the cache's own folder is trusted.
#pragma once

#include <string>

#include "base/result.h"
#include "cache/block_key.h"
#include "format/model_file.h"

namespace fathom {

/// 64 hex digits. Errors: those of ModelFile::Read.
Result<std::string> ModelFingerprint(const ModelFile& file);
/// Rotary base, scaling and layout as text, e.g. "theta=10000 dim=64 interleaved yarn factor=40 …".
std::string RopeText(const RopeConfig& rope);
/// The space that this model's blocks live in. Errors as ModelFingerprint.
Result<KvSpace> SpaceOf(const ModelFile& file, const KvLayout& layout);

}  // namespace fathom
