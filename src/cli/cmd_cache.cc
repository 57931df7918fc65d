// fathom cache: what is kept, why, and what it would bring.
#include "cli/cmd_cache.h"

namespace fathom {

void RegisterCache(CLI::App& app, Action& selected) {
  CLI::App* cache = app.add_subcommand("cache", "what the KV cache keeps, and what it would bring");
  cache->require_subcommand(1);
  cache->footer(
      "Examples:\n"
      "  fathom cache ls                                what the default folder holds\n"
      "  fathom cache stat -m model.gguf --cache-dir DIR\n"
      "  fathom cache explain -m model.gguf -f prompt.txt\n"
      "  fathom cache simulate --trace trace.jsonl --memory 10GiB --disk 100GiB\n"
      "\n"
      "A folder belongs to one process: while a server uses it, ask the server (/v1/cache).\n"
      "'fathom cache COMMAND --help' tells more about each.");
  RegisterCacheFolder(*cache, selected);
  RegisterCacheSimulate(*cache, selected);
}

}  // namespace fathom
