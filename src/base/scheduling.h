// What a thread asks of the system's scheduler. Needs no privileges.
#pragma once

namespace fathom {

/// For a thread that works for microseconds and waits for most of its time, beside others that compute: from now on it is
/// given short slices of time, and so comes to run as soon as it has something to do (Linux 6.12 and later; see
/// sched_setattr(2), sched_runtime of SCHED_OTHER). Elsewhere nothing happens. Policy and niceness stay. False: nothing was
/// changed.
bool AskForShortSlices();

}  // namespace fathom
