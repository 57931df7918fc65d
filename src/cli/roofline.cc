#include "cli/roofline.h"

#include <algorithm>

namespace fathom {
namespace {

double Over(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

}  // namespace

MachineCeilings Mean(const MachineCeilings& a, const MachineCeilings& b) {
  return {(a.bandwidth + b.bandwidth) / 2, (a.int8 + b.int8) / 2, (a.bf16 + b.bf16) / 2, (a.f32 + b.f32) / 2};
}

Roofline MakeRoofline(const Profile& profile, const MachineCeilings& ceilings) {
  Roofline roofline;
  roofline.total.name = "all";
  double least_total = 0;
  for (int i = 0; i < kStages; ++i) {
    const StageWork& stage = profile.of(static_cast<Stage>(i));
    if (stage.calls == 0) continue;
    const double memory = Over(stage.work.bytes, ceilings.bandwidth);
    const double arithmetic = Over(stage.work.int8, ceilings.int8) + Over(stage.work.bf16, ceilings.bf16) +
                              Over(stage.work.f32, ceilings.f32);
    RooflineRow row{.name = std::string(StageName(static_cast<Stage>(i))),
                    .seconds = stage.seconds,
                    .bytes = stage.work.bytes,
                    .operations = stage.work.operations()};
    const double least = std::max(memory, arithmetic);
    if (least > 0) row.bound = memory >= arithmetic ? "memory" : "arithmetic";
    row.share = Over(least, row.seconds);
    least_total += least;
    roofline.total.seconds += row.seconds;
    roofline.total.bytes += row.bytes;
    roofline.total.operations += row.operations;
    roofline.rows.push_back(std::move(row));
  }
  for (RooflineRow& row : roofline.rows) row.time_share = Over(row.seconds, roofline.total.seconds);
  roofline.total.time_share = roofline.rows.empty() ? 0 : 1;
  roofline.total.share = Over(least_total, roofline.total.seconds);
  return roofline;
}

}  // namespace fathom
