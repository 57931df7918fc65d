// fathom serve: an HTTP API on a model.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/log.h"
#include "cli/answer.h"
#include "cli/byte_size.h"
#include "cli/cache_folder.h"
#include "cli/command.h"
#include "cli/machine.h"
#include "cli/models.h"
#include "cli/option_checks.h"
#include "cli/options.h"
#include "cli/shutdown.h"
#include "cli/tenants_file.h"
#include "cli/terminal.h"
#include "engine/service.h"
#include "io/env.h"
#include "server/http_server.h"

namespace fathom {
namespace {

namespace fs = std::filesystem;

struct ServeOptions {
  ModelOptions model;
  ServerOptions server;
  ServiceOptions service;
  std::string model_name, api_keys, new_api_key, new_key_tenant, tenants;
  std::string cache_ram, cache_dir, cache_disk, cache_daily_writes, max_body;
  std::string tenant_ram, tenant_disk, tenant_pinned;
  std::string eviction = "saved-time";
  bool no_cache = false, no_io_uring = false;
  double drain_seconds = 30, cache_ttl_hours = 0;
};

/// Folders that earlier versions made are open to whom the umask let in; what this one makes is the user's alone. They stay as
/// they are, for it may be meant.
bool OthersMayRead(const std::string& directory) {
  constexpr auto kOthers = fs::perms::group_read | fs::perms::others_read;
  const auto open = [&](const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    return !error && (status.permissions() & kOthers) != fs::perms::none;
  };
  if (directory.empty() || !open(directory)) return false;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored) && it->path().filename() != "lost+found" && open(it->path())) return true;
  }
  return false;
}

Result<CacheOptions> ToCacheOptions(const ServeOptions& options) {
  CacheOptions cache = options.service.cache;
  cache.enabled = !options.no_cache;
  cache.io_uring = !options.no_io_uring;
  const Machine machine = ExamineMachine();
  const int64_t memory = machine.memory_limit > 0 ? machine.memory_limit : machine.memory_total;
  cache.memory_bytes = std::max<int64_t>(memory / 4, 64 << 20);
  if (!options.cache_ram.empty()) {
    FATHOM_TRY(cache.memory_bytes, ParseByteSize("--cache-ram", options.cache_ram));
  }
  if (options.eviction == "lru") cache.eviction = EvictionKind::kLru;
  if (options.eviction == "s3-fifo") cache.eviction = EvictionKind::kS3Fifo;
  TenantLimits& each = cache.default_limits;
  each.ttl_seconds = TtlSeconds(options.cache_ttl_hours);
  if (!options.tenant_ram.empty()) {
    FATHOM_TRY(each.memory_bytes, ParseByteSize("--tenant-cache-ram", options.tenant_ram));
  }
  if (!options.tenant_disk.empty()) {
    FATHOM_TRY(each.disk_bytes, ParseByteSize("--tenant-cache-disk", options.tenant_disk));
  }
  if (!options.tenant_pinned.empty()) {
    FATHOM_TRY(each.pinned_bytes, ParseByteSize("--tenant-cache-pinned", options.tenant_pinned));
  }
  if (!options.cache_daily_writes.empty()) {
    FATHOM_TRY(cache.daily_write_bytes, ParseByteSize("--cache-daily-writes", options.cache_daily_writes));
  }
  cache.directory = options.cache_dir;
  if (!options.cache_disk.empty()) {
    FATHOM_TRY(cache.disk_bytes, ParseByteSize("--cache-disk", options.cache_disk));
    if (cache.disk_bytes == 0) {
      cache.directory.clear();
    } else if (cache.directory.empty()) {
      cache.directory = DefaultCacheFolder();
      if (cache.directory.empty()) {
        return Fail(ErrorCode::kNotFound, "--cache-disk: neither XDG_CACHE_HOME nor HOME is set\nSay where with "
                                          "--cache-dir DIR.");
      }
    }
  } else if (!cache.directory.empty()) {
    FATHOM_CHECK_OK(Env::Default().CreateDirectories(cache.directory));
    std::error_code error;
    const auto space = fs::space(cache.directory, error);
    if (error) {
      return Fail(ErrorCode::kIo, "--cache-dir {}: cannot be used ({})", cache.directory, error.message());
    }
    cache.disk_bytes = std::min<int64_t>(int64_t{16} << 30, static_cast<int64_t>(space.available / 2));
  }
  if (options.no_cache) cache.directory.clear();
  if (cache.key_file.empty() && OthersMayRead(cache.directory)) {
    std::fprintf(stderr, "warning: %s: others on this machine may read what stands there, prompts included; close it with\n"
                         "  chmod -R go-rwx %s\n", cache.directory.c_str(), cache.directory.c_str());
  }
  return cache;
}

/// What is asked for, above all under --memory: one pool for many sequences, and room for requests.
Status AskForMemory(ServeOptions& options) {
  FATHOM_TRY(const int64_t promised, PromisedBytes(options.model));
  if (promised == 0) {
    // What the pool of keys and values may become, the page cache cannot have; without a limit that is all there is.
    const int64_t pool = options.service.cache.memory_bytes;
    options.model.beside_bytes = pool > 0 ? pool : int64_t{1} << 50;
    return {};
  }
  if (!options.cache_ram.empty() && options.service.cache.memory_bytes == 0)
    return Fail(ErrorCode::kInvalidArgument, "--cache-ram 0 is without limit, which --memory does not allow");
  ServerOptions& server = options.server;
  server.max_bodies_bytes = std::max<int64_t>(promised / 64, int64_t{4} << 20);
  if (options.max_body.empty()) server.max_body_bytes = std::min(server.max_body_bytes, server.max_bodies_bytes);
  server.max_bodies_bytes = std::max(server.max_bodies_bytes, server.max_body_bytes);
  constexpr int64_t kConnections = int64_t{16} << 20, kCopiesOfABody = 4;
  options.model.promise = {.serving = true,
                           .kv_bytes = options.cache_ram.empty() ? -1 : options.service.cache.memory_bytes,
                           .rows = options.service.step_tokens,
                           .sequences = options.service.max_sequences,
                           .logit_rows = options.service.max_sequences,
                           .extra_bytes = kConnections + kCopiesOfABody * server.max_bodies_bytes};
  return {};
}

/// What --tenants says of each of them, over what the options say of all.
Status ReadTenants(ServeOptions& options) {
  if (options.tenants.empty()) return {};
  AppOptions& app = options.server.app;
  CacheOptions& cache = options.service.cache;
  if (app.keys.empty()) {
    return Fail(ErrorCode::kInvalidArgument, "--tenants: tenants are known by their keys, and without --api-keys nobody has "
                                             "one\nFor everybody there are --tenant-cache-ram, --tenant-cache-disk and others.");
  }
  FATHOM_TRY(const auto tenants, LoadTenants(options.tenants, {cache.default_limits, app.quota}));
  for (const auto& [name, rules] : tenants) {
    cache.tenant_limits[name] = rules.limits;
    app.tenant_quotas[name] = rules.quota;
    if (!app.keys.HasTenant(name)) {
      std::fprintf(stderr, "warning: %s: no key is of tenant '%s'\n", options.tenants.c_str(), name.c_str());
    }
  }
  return {};
}

/// What clients call the model: the name it was asked for by, or its file's.
std::string ServedName(const ServeOptions& options, const std::string& path) {
  if (!options.model_name.empty()) return options.model_name;
  std::string name = options.model.model;
  if (name.empty() || name.find('/') != std::string::npos || name.ends_with(".gguf")) {
    fs::path file = fs::path(path).lexically_normal();
    if (!file.has_filename()) file = file.parent_path();
    name = file.extension() == ".gguf" ? file.stem().string() : file.filename().string();
  }
  return OneLine(name, 100);
}

void TellPlan(const ServeOptions& options, const Engine& engine, const CacheOptions& cache, const std::string& name) {
  if (options.model.quiet) return;
  const MemoryUse memory = engine.memory();
  std::string plan = fmt::format("serving {}: weights {}, context {} tokens, ", name,
                                 HumanBytes(memory.weights()), engine.context_length());
  plan += cache.memory_bytes > 0 ? fmt::format("KV memory {} (about {} tokens)", HumanBytes(cache.memory_bytes),
                                               HumanCount(cache.memory_bytes / std::max<int64_t>(1, memory.kv_bytes_per_token)))
                                 : "KV memory without limit";
  if (!cache.enabled) plan += ", prefixes are not kept";
  if (!cache.directory.empty()) plan += fmt::format(", {} on disk in {}", HumanBytes(cache.disk_bytes), cache.directory);
  std::fprintf(stderr, "%s\n", plan.c_str());
  if (const std::string unknown = UnknownTemplateWarning(engine); !unknown.empty())
    std::fprintf(stderr, "warning: %s\n", unknown.c_str());
  if (engine.tokenizer() == nullptr) {
    std::fprintf(stderr, "warning: this model's tokenizer cannot be used (%s); only token ids are understood\n",
                 engine.tokenizer_error().c_str());
  }
}

Status PrintNewKey(const ServeOptions& options) {
  FATHOM_TRY(const FreshKey fresh, MakeApiKey(options.new_api_key, options.new_key_tenant));
  std::printf("%s\n", fresh.key.c_str());
  std::fflush(stdout);
  // Fit for the file as it stands: 2>>keys.txt.
  std::fprintf(stderr, "# The key on standard output is shown this once; this line goes into the file of --api-keys:\n%s\n",
               fresh.line.c_str());
  return {};
}

Status RunServe(const ServeOptions& given) {
  if (!given.new_api_key.empty()) return PrintNewKey(given);
  ServeOptions options = given;
  ServerOptions& server_options = options.server;
  // Words first: a wrong command line or a port that is taken should not wait for a model to load.
  if (!options.api_keys.empty()) {
    FATHOM_TRY(server_options.app.keys, ApiKeys::Load(options.api_keys));
  }
  if (!options.max_body.empty()) {
    FATHOM_TRY(server_options.max_body_bytes, ParseByteSize("--max-body", options.max_body));
    server_options.max_bodies_bytes = std::max(server_options.max_bodies_bytes, 4 * server_options.max_body_bytes);
  }
  FATHOM_TRY(options.service.cache, ToCacheOptions(options));
  FATHOM_CHECK_OK(ReadTenants(options));
  FATHOM_CHECK_OK(AskForMemory(options));
  FATHOM_CHECK_OK(Server::Check(server_options));
  FATHOM_TRY(const std::string path, ResolveModel(options.model.model));
  server_options.app.model_name = ServedName(options, path);
  FATHOM_TRY(const auto engine, LoadEngine(options.model));
  if (const auto plan = engine->memory_plan()) {
    options.service.cache.memory_bytes = plan->kv_bytes;
    options.service.step_tokens = std::min(options.service.step_tokens, plan->rows);
  }
  FATHOM_TRY(const auto service, Service::Create(*engine, options.service));
  TellPlan(options, *engine, options.service.cache, server_options.app.model_name);

  ShutdownScope shutdown;
  FATHOM_TRY(const auto server, Server::Start(*service, server_options));
  std::printf("listening on %s\n", server->url().c_str());
  std::fflush(stdout);
  shutdown.Wait();
  if (!options.model.quiet) {
    std::fprintf(stderr, "shutting down: answers in work have %.0f s; Ctrl-C again ends at once\n",
                 options.drain_seconds);
  }
  server->BeginDrain();
  service->Drain(options.drain_seconds);
  server->Stop(5);
  return {};
}

}  // namespace

void RegisterServe(CLI::App& app, Action& selected) {
  auto options = std::make_shared<ServeOptions>();
  CLI::App* command =
      AddCommand(app, selected, "serve", "an OpenAI- and Anthropic-compatible API, and a web page",
                 "Prints one line 'listening on http://…' when it is ready, and serves until Ctrl-C or SIGTERM; answers in\n"
                 "work are then finished, and sessions are parked in the cache. Nothing is asked of any other machine, and\n"
                 "no prompt is ever logged (FATHOM_LOG=info logs a line a request: route, status, counts, times).\n"
                 "\n"
                 "SIZE is 4GiB, 512M, 100GB, …\n"
                 "\n"
                 "Examples:\n"
                 "  fathom serve                                     the default model, on this machine only\n"
                 "  fathom serve -m model.gguf --port 9000 --cache-disk 50GiB\n"
                 "                                                   what was computed once is known after a restart\n"
                 "  curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n"
                 "    -d '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}], \"stream\": true}'\n"
                 "  fathom serve --new-api-key alice 2>>keys.txt     the key is shown, its hash goes into the file\n"
                 "  fathom serve --host 0.0.0.0 --api-keys keys.txt --allowed-host box.example.org\n"
                 "  fathom serve --api-keys keys.txt --tenants tenants.toml --cache-disk 100GiB\n"
                 "                                                   shares of the cache and rates, tenant by tenant:\n"
                 "    [tenant.alice]\n"
                 "    cache_disk = \"10GiB\"\n"
                 "    ttl_hours = 24\n"
                 "\n"
                 "The page is at /, the endpoints are in docs/server.md.",
                 options, RunServe);
  AddModelOptions(*command, options->model);
  AddSpeculationOption(*command, options->model);
  ServerOptions& server = options->server;
  auto* where = command->add_option_group("Where and for whom");
  where->add_option("--host", server.host, "address to listen on; beyond this machine --api-keys is required")
      ->type_name("ADDRESS")
      ->capture_default_str();
  where->add_option("-p,--port", server.port, "0: any that is free")->type_name("N")->capture_default_str();
  where->add_option("--model-name", options->model_name, "what clients call the model; default: its file's name")
      ->type_name("NAME");
  where->add_option("--api-keys", options->api_keys,
                    "a file of lines 'NAME SHA256 [TENANT] [admin]'; who has none of the keys is refused. Tenants share "
                    "no cache; admin keys see all of it")
      ->type_name("FILE");
  where->add_option("--new-api-key", options->new_api_key, "print a fresh key, and its line for the file on stderr; end")
      ->type_name("NAME");
  where->add_option("--tenant", options->new_key_tenant, "with --new-api-key: whose cache it uses; default: NAME")
      ->type_name("NAME");
  where->add_option("--tenants", options->tenants,
                    "TOML: [tenant.NAME] with cache_ram, cache_disk, cache_pinned (sizes), ttl_hours, requests_per_minute, "
                    "concurrent; what it does not say is as for everybody")
      ->type_name("FILE");
  where->add_option("--allowed-host", server.app.origins.allowed_hosts,
                    "a name under which this server is reached, beside localhost and addresses; repeatable")
      ->type_name("NAME")
      ->allow_extra_args(false);
  where->add_option("--cors-origin", server.app.origins.cors_origins,
                    "pages from there may use the API, e.g. https://chat.example.org; repeatable")
      ->type_name("ORIGIN")
      ->allow_extra_args(false);
  auto* cache = command->add_option_group("Cache");
  cache->add_option("--cache-ram", options->cache_ram, "memory for keys and values; default: a quarter of this machine's, or what --memory leaves")
      ->type_name("SIZE");
  cache->add_option("--cache-dir", options->cache_dir,
                    "keep them on an SSD too, for the next start; default with --cache-disk: $XDG_CACHE_HOME/fathom/kv")
      ->type_name("DIR");
  cache->add_option("--cache-disk", options->cache_disk, "how much there; default with --cache-dir: 16GiB")
      ->type_name("SIZE");
  cache->add_option("--cache-daily-writes", options->cache_daily_writes, "most to write to the SSD in a day; default: any")
      ->type_name("SIZE");
  cache->add_option("--cache-key-file", options->service.cache.key_file,
                    "32 bytes or 64 hex digits: blocks on the SSD are encrypted with it")
      ->type_name("FILE");
  cache->add_option("--tenant-cache-ram", options->tenant_ram,
                    "most of it that one tenant may take; at its limit it loses its own oldest, never another's; default: all")
      ->type_name("SIZE");
  cache->add_option("--tenant-cache-disk", options->tenant_disk, "the same of the SSD; 0: nothing of theirs goes there")
      ->type_name("SIZE");
  cache->add_option("--tenant-cache-pinned", options->tenant_pinned, "most that one tenant may pin; 0: none; default: any")
      ->type_name("SIZE");
  cache->add_option("--cache-ttl", options->cache_ttl_hours, "forget what was not used for so many hours; 0: never")
      ->type_name("HOURS")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  cache->add_option("--eviction", options->eviction, "saved-time, lru or s3-fifo")
      ->check(CLI::IsMember({"saved-time", "lru", "s3-fifo"}))
      ->capture_default_str();
  cache->add_flag("--no-cache", options->no_cache, "compute every prompt anew (for measurements)");
  cache->add_flag("--no-io-uring", options->no_io_uring, "read and write with threads instead");
  auto* limits = command->add_option_group("Limits");
  limits->add_option("--max-sequences", options->service.max_sequences, "answers in the batch at once")
      ->type_name("N")
      ->check(WholeNumber(1, 1024))
      ->capture_default_str();
  limits->add_option("--max-queue", options->service.max_queue, "requests that may wait; more get 429")
      ->type_name("N")
      ->check(WholeNumber(0, 1'000'000))
      ->capture_default_str();
  limits->add_option("--step-tokens", options->service.step_tokens,
                     "rows of one step; smaller: smoother streams while long prompts are read, slower prompts")
      ->type_name("N")
      ->check(WholeNumber(16, 65536))
      ->capture_default_str();
  limits->add_option("--max-body", options->max_body, "largest request; default: 32MiB")->type_name("SIZE");
  limits->add_option("--max-connections", server.max_connections, "open at once")
      ->type_name("N")
      ->check(WholeNumber(1, 100000))
      ->capture_default_str();
  limits->add_option("--rate-limit", server.app.quota.requests_per_minute, "requests a minute and tenant; 0: any")
      ->type_name("N")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  limits->add_option("--max-concurrent", server.app.quota.concurrent, "requests of a tenant in work at once; 0: any")
      ->type_name("N")
      ->check(WholeNumber(0, 1'000'000))
      ->capture_default_str();
  limits->add_option("--drain-seconds", options->drain_seconds, "that answers in work have at the end")
      ->type_name("S")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  auto* prices = command->add_option_group("Prices", "Of a million tokens, in your currency; usage then has a 'cost'.");
  prices->add_option("--price-hit", server.app.prices.hit, "of the prompt, known")->check(CLI::NonNegativeNumber);
  prices->add_option("--price-miss", server.app.prices.miss, "of the prompt, computed")->check(CLI::NonNegativeNumber);
  prices->add_option("--price-output", server.app.prices.output, "generated")->check(CLI::NonNegativeNumber);
}

}  // namespace fathom
