// Naive twin of attention.h: double arithmetic, one query and head at a time. For tests.
#pragma once

#include "kernels/attention.h"

namespace fathom {

void AttentionRef(const AttentionJob& job);

}  // namespace fathom
