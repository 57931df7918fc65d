// What cannot be waited for: things that a disk which does not answer still writes into (buffers, files, rings) are
// destroyed by a thread of their own, whenever it answers, while whoever had them goes on. Nothing is freed or used again
// before that, so a late read does no harm; if the disk never answers, they are never freed.
//
// Thread-safe.
#pragma once

#include <cstdint>
#include <memory>

namespace fathom {

/// Destroys `what`, whose destructor waits for its reads, on another thread. What it refers to (an Env) must outlive that.
void LeaveBehind(std::shared_ptr<void> what);
/// How many such destructors have not returned yet.
int64_t LeftBehind();

}  // namespace fathom
