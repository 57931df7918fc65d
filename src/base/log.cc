#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>
#include <string_view>

namespace fathom {

void InitLog() {
  auto logger = spdlog::stderr_color_mt("fathom");
  logger->set_pattern("%^%l%$: %v");
  logger->set_level(spdlog::level::warn);
  spdlog::set_default_logger(logger);
  const char* text = std::getenv("FATHOM_LOG");
  if (text == nullptr || *text == '\0') return;
  // spdlog takes every name it does not know for "off", which would hide what goes wrong.
  const auto level = spdlog::level::from_str(text);
  if (level == spdlog::level::off && std::string_view(text) != "off") {
    spdlog::warn("FATHOM_LOG={}: not one of trace, debug, info, warn, error, critical, off; warn is used", text);
    return;
  }
  logger->set_level(level);
}

}  // namespace fathom
