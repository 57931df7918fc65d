// Maps a model's pages ahead of their first use, in the background.
//
// A mapped file costs a page fault for every 16 pages when it is first touched, in the middle of the arithmetic: with
// 10 GB of experts the first hundred tokens are slower by a quarter. Asking the kernel for much at once is several
// times cheaper, and from disk it reads in sequence. Files that do not fit in memory are left to be read as needed.
//
// It takes all of the disk for as long as it lasts, so it stops while somebody waits for rows from the cache's.
#pragma once

#include <atomic>
#include <memory>
#include <thread>

#include "format/model_file.h"

namespace fathom {

/// Starts the work if the file fits in the memory that is free; the thread ends by itself. Destroying it stops the work
/// at the next few megabytes. `file` must outlive it. urgent (may be nullptr): while it is above 0 the work pauses, for
/// half a minute altogether at most. experts: false: routed experts come from somewhere else and are left out.
std::jthread WarmWeights(const ModelFile& file, std::shared_ptr<const std::atomic<int>> urgent, bool experts = true);

}  // namespace fathom
