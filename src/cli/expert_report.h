// What streaming experts came to, for the reports of run, bench, perplexity and eval. Pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "experts/expert_store.h"

namespace fathom {

/// A few lines without a last line break: slots, hits over all and by layer, reads and how good guesses were, waiting.
/// Empty when nothing was asked for.
std::string ExpertReport(const ExpertStoreStats& stats);

/// asked, used, why in words; where it was measured the figures too.
nlohmann::ordered_json ExpertIoJson(const IoChoice& io);
nlohmann::ordered_json ExpertJson(const ExpertStoreStats& stats);

/// In [0, 1]; 0 when nothing was asked for.
double ExpertHitRatio(const ExpertStoreStats& stats);

}  // namespace fathom
