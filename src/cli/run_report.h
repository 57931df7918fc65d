// The JSON object that `fathom run --json` prints; scripts rely on its fields.
#pragma once

#include <string>

#include "cli/answer.h"
#include "engine/engine.h"

namespace fathom {

/// One line of JSON, valid UTF-8.
std::string RunReport(const Engine& engine, const Session& session, const Prompt& prompt,
                      const GenerationResult& result, double load_seconds);

}  // namespace fathom
