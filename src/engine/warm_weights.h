// Maps a model's pages ahead of their first use, in the background.
//
// A mapped file costs a page fault for every 16 pages when it is first touched, in the middle of the arithmetic: with
// 10 GB of experts the first hundred tokens are slower by a quarter. Asking the kernel for whole tensors is several
// times cheaper, and from disk it reads in sequence. Files that do not fit in memory are left to be read as needed.
#pragma once

#include <thread>

#include "format/model_file.h"

namespace fathom {

/// Starts the work if the file fits in the memory that is free; the thread ends by itself. Destroying it stops the work
/// at the next tensor. `file` must outlive it.
std::jthread WarmWeights(const ModelFile& file);

}  // namespace fathom
