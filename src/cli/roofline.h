// The roofline of one bench run: for each kind of operation its time, the bytes and operations that it cannot do without,
// and how near it came to the time that the machine's ceilings allow. Pure; thread-safe.
#pragma once

#include <string>
#include <vector>

#include "model/profile.h"

namespace fathom {

/// What the machine can do, per second; 0: not measured.
struct MachineCeilings {
  double bandwidth = 0;                // bytes
  double int8 = 0, bf16 = 0, f32 = 0;  // operations
};
MachineCeilings Mean(const MachineCeilings& a, const MachineCeilings& b);

struct RooflineRow {
  std::string name;
  double seconds = 0;     // of the run
  double time_share = 0;  // of the run's time
  double bytes = 0, operations = 0;
  double share = 0;       // of the ceiling: the least time that it could have taken, by its time; 0: nothing to compare
  const char* bound = ""; // "memory", "arithmetic", "" when it has neither
};

struct Roofline {
  std::vector<RooflineRow> rows;  // in the order of a pass; stages without calls left out
  RooflineRow total;              // name "all"; the share counts each stage's own bound
};

Roofline MakeRoofline(const Profile& profile, const MachineCeilings& ceilings);

}  // namespace fathom
