// What an engine that streams its experts tells at /metrics: fathom_expert_*. Pure; the names are part of docs/server.md.
#pragma once

#include "experts/expert_store.h"
#include "server/metrics.h"

namespace fathom {

void WriteExpertMetrics(const ExpertStoreStats& stats, MetricsText& text);

}  // namespace fathom
