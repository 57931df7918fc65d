#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>

namespace fathom {

void InitLog() {
  auto logger = spdlog::stderr_color_mt("fathom");
  logger->set_pattern("%^%l%$: %v");
  logger->set_level(spdlog::level::warn);
  if (const char* level = std::getenv("FATHOM_LOG")) logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(logger);
}

}  // namespace fathom
