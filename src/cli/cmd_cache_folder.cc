// fathom cache ls · stat · explain · verify · pin · unpin · forget · gc: a cache folder looked at and tidied while no
// server uses it.
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "cli/byte_size.h"
#include "cli/cache_folder.h"
#include "cli/cmd_cache.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/tenants_file.h"
#include "cli/terminal.h"
#include "model/kv_layout.h"

namespace fathom {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kBlockTokens = KvLayout::kBlockTokens;

struct FolderCommand {
  CacheFolderOptions folder;
  PromptWords words;
  int64_t limit = 50;
  bool everything = false, all = false;
  std::string disk;
  double ttl_hours = 0;
};

void PrintJson(const ordered_json& value) { std::printf("%s\n", value.dump(2).c_str()); }

std::string Ago(double seconds) { return HumanSeconds(std::max(seconds, 0.0)) + " ago"; }

// --- ls -------------------------------------------------------------------------------------------------------------

ordered_json ToJson(const CacheEntryInfo& entry) {
  return {{"key", ToHex(entry.key)},
          {"root", ToHex(entry.root)},
          {"first_position", entry.first_position},
          {"count", entry.count},
          {"disk", entry.on_disk},
          {"pinned", entry.pinned},
          {"age_seconds", entry.age_seconds},
          {"idle_seconds", entry.idle_seconds}};
}

Status ListFolder(const FolderCommand& command) {
  FATHOM_TRY(const std::string directory, FindCacheFolder(command.folder));
  FATHOM_TRY(const auto spaces, ListSpaces(directory));
  if (command.folder.json) {
    ordered_json list = ordered_json::array();
    for (const SpaceListing& space : spaces)
      list.push_back({{"space", space.digest}, {"files", space.files}, {"bytes", space.bytes}});
    PrintJson({{"directory", SafeUtf8(directory)}, {"spaces", std::move(list)}});
    return {};
  }
  std::printf("%-32s %7s %10s\n", "space", "files", "size");
  for (const SpaceListing& space : spaces) {
    std::printf("%-32s %7lld %10s\n", space.digest.c_str(), static_cast<long long>(space.files),
                HumanBytes(space.bytes).c_str());
  }
  std::fflush(stdout);
  std::fprintf(stderr, "A space is one model in one element type; with -m MODEL its blocks are listed.\n");
  return {};
}

Status RunLs(const FolderCommand& command) {
  if (command.folder.model.empty()) return ListFolder(command);
  FATHOM_TRY(const CacheFolder folder, OpenCacheFolder(command.folder));
  std::vector<CacheEntryInfo> entries = folder.cache->List();
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.idle_seconds < b.idle_seconds; });
  const size_t total = entries.size();
  if (command.limit > 0 && total > static_cast<size_t>(command.limit)) entries.resize(command.limit);
  if (command.folder.json) {
    ordered_json list = ordered_json::array();
    for (const CacheEntryInfo& entry : entries) list.push_back(ToJson(entry));
    PrintJson({{"directory", SafeUtf8(folder.directory)}, {"total", total}, {"blocks", std::move(list)}});
    return {};
  }
  std::printf("%-32s %-8s %17s %12s %s\n", "block", "tenant", "tokens", "used", "");
  for (const CacheEntryInfo& entry : entries) {
    std::printf("%-32s %-8s %17s %12s %s\n", ToHex(entry.key).c_str(), ToHex(entry.root).substr(0, 8).c_str(),
                fmt::format("{}-{}", entry.first_position, entry.first_position + entry.count - 1).c_str(),
                Ago(entry.idle_seconds).c_str(), entry.pinned ? "pinned" : "");
  }
  std::fflush(stdout);
  if (entries.size() < total)
    std::fprintf(stderr, "%zu of %zu blocks; --limit 0 lists all\n", entries.size(), total);
  return {};
}

// --- stat -----------------------------------------------------------------------------------------------------------

Status RunStat(const FolderCommand& command) {
  FATHOM_TRY(const CacheFolder folder, OpenCacheFolder(command.folder));
  struct Sum {
    int64_t blocks = 0, tokens = 0, prompts = 0, pinned = 0;
    double oldest = 0;
  };
  std::map<std::string, Sum> tenants;
  Sum all;
  for (const CacheEntryInfo& entry : folder.cache->List()) {
    for (Sum* sum : {&all, &tenants[ToHex(entry.root)]}) {
      ++sum->blocks;
      sum->tokens += entry.count;
      sum->prompts += entry.first_position == 0;
      sum->pinned += entry.pinned;
      sum->oldest = std::max(sum->oldest, entry.age_seconds);
    }
  }
  const CacheStats stats = folder.cache->stats();
  const int64_t block_bytes = folder.space.layout.block_bytes();
  if (command.folder.json) {
    ordered_json list = ordered_json::array();
    for (const auto& [root, sum] : tenants) {
      list.push_back({{"root", root},
                      {"blocks", sum.blocks},
                      {"tokens", sum.tokens},
                      {"beginnings", sum.prompts},
                      {"pinned", sum.pinned},
                      {"oldest_seconds", sum.oldest}});
    }
    PrintJson({{"directory", SafeUtf8(folder.directory)},
               {"space", ToHex(folder.space.Digest())},
               {"kv_type", KvTypeName(folder.space.layout.dtype)},
               {"block_bytes", block_bytes},
               {"blocks", all.blocks},
               {"tokens", all.tokens},
               {"pinned", all.pinned},
               {"used_bytes", stats.disk.used_bytes},
               {"corrupt", stats.disk.corrupt},
               {"written_today_bytes", stats.written_today},
               {"tenants", std::move(list)}});
    return {};
  }
  std::printf("folder      %s\n", OneLine(folder.directory, 200).c_str());
  std::printf("space       %s (%s, %s a block of %lld tokens)\n", ToHex(folder.space.Digest()).c_str(),
              std::string(DTypeName(folder.space.layout.dtype)).c_str(), HumanBytes(block_bytes).c_str(),
              static_cast<long long>(kBlockTokens));
  std::printf("blocks      %lld: %s tokens, %s, %lld pinned\n", static_cast<long long>(all.blocks),
              HumanCount(all.tokens).c_str(), HumanBytes(stats.disk.used_bytes).c_str(),
              static_cast<long long>(all.pinned));
  if (stats.disk.corrupt > 0)
    std::printf("damaged     %lld blocks were dropped on opening\n", static_cast<long long>(stats.disk.corrupt));
  for (const auto& [root, sum] : tenants) {
    std::printf("tenant      %s: %lld blocks, %s tokens, %lld beginnings, oldest %s\n", root.substr(0, 8).c_str(),
                static_cast<long long>(sum.blocks), HumanCount(sum.tokens).c_str(), static_cast<long long>(sum.prompts),
                Ago(sum.oldest).c_str());
  }
  return {};
}

// --- explain --------------------------------------------------------------------------------------------------------

/// One block of a prompt, or several in a row of which the same is true.
struct Stretch {
  int64_t begin = 0, end = 0;  // tokens
  bool known = false, pinned = false;
  double used = 0;  // seconds ago
};

Status RunExplain(const FolderCommand& command) {
  FATHOM_TRY(const CacheFolder folder, OpenCacheFolder(command.folder));
  FATHOM_TRY(const std::vector<int32_t> tokens, ReadPromptWords(*folder.model, command.words));
  const KvPrefix prefix = folder.cache->Explain(command.folder.tenant, tokens);
  std::map<BlockKey, CacheEntryInfo> known;
  for (CacheEntryInfo& entry : folder.cache->List()) known.emplace(entry.key, entry);
  std::vector<Stretch> stretches;
  const auto count = static_cast<int64_t>(tokens.size());
  BlockKey key = RootKey(folder.space, command.folder.tenant);
  for (int64_t begin = 0; begin < count; begin += kBlockTokens) {
    const int64_t end = std::min(begin + kBlockTokens, count);
    key = ChainKey(key, std::span(tokens).subspan(begin, end - begin));
    Stretch one{.begin = begin, .end = end};
    if (const auto it = known.find(key); it != known.end())
      one.known = true, one.pinned = it->second.pinned, one.used = it->second.idle_seconds;
    // Known in part: up to where another kept block agrees.
    if (!one.known && prefix.tokens > begin && prefix.tokens < end) {
      stretches.push_back({.begin = begin, .end = prefix.tokens, .known = true});
      one.begin = prefix.tokens;
    } else if (!one.known && prefix.tokens >= end) {
      one.known = true;  // the beginning of a longer block
    }
    if (!stretches.empty() && stretches.back().known == one.known && stretches.back().pinned == one.pinned &&
        std::abs(stretches.back().used - one.used) < 60) {
      stretches.back().end = one.end;
    } else {
      stretches.push_back(one);
    }
  }
  if (command.folder.json) {
    ordered_json list = ordered_json::array();
    for (const Stretch& one : stretches) {
      list.push_back({{"begin", one.begin}, {"end", one.end}, {"known", one.known}, {"pinned", one.pinned}});
      if (one.known) list.back()["used_seconds_ago"] = one.used;
    }
    PrintJson({{"prompt_tokens", count},
               {"known_tokens", prefix.tokens},
               {"memory_tokens", prefix.memory_tokens},
               {"disk_tokens", prefix.disk_tokens},
               {"reason", prefix.reason},
               {"stretches", std::move(list)}});
    return {};
  }
  std::printf("%s\n", prefix.reason.c_str());
  for (const Stretch& one : stretches) {
    std::string words = one.known ? "kept" : "not kept";
    if (one.used > 0) words += ", used " + Ago(one.used);
    if (one.pinned) words += ", pinned";
    std::printf("  tokens %7lld to %7lld  %s\n", static_cast<long long>(one.begin), static_cast<long long>(one.end - 1),
                words.c_str());
  }
  return {};
}

// --- verify, pin, forget, gc ----------------------------------------------------------------------------------------

Status RunVerify(const FolderCommand& command) {
  const InterruptScope interrupt;
  FATHOM_TRY(const CacheFolder folder, OpenCacheFolder(command.folder));
  const int64_t on_opening = folder.cache->stats().disk.corrupt;
  std::pair<int64_t, int64_t> done;
  {
    Progress progress("verifying");
    FATHOM_TRY(done, folder.cache->Verify([&](int64_t read, int64_t total) {
      progress.Update(read, total);
      return !Interrupted();
    }));
  }
  const int64_t dropped = done.second + on_opening;
  if (command.folder.json) {
    PrintJson({{"read_blocks", done.first}, {"dropped_blocks", dropped}});
  } else {
    std::printf("%lld blocks read, %lld dropped\n", static_cast<long long>(done.first),
                static_cast<long long>(dropped));
  }
  if (dropped == 0) return {};
  return Fail(ErrorCode::kCorrupt, "{}: {} blocks were damaged and have been dropped; their prompts are computed again",
              folder.directory, dropped);
}

Status PinWords(const FolderCommand& command, bool pinned) {
  FATHOM_TRY(const CacheFolder folder, OpenCacheFolder(command.folder));
  FATHOM_TRY(const std::vector<int32_t> tokens, ReadPromptWords(*folder.model, command.words));
  FATHOM_TRY(const int64_t blocks, folder.cache->Pin(command.folder.tenant, tokens, pinned));
  if (command.folder.json) {
    PrintJson({{"blocks", blocks}, {"pinned", pinned}});
  } else {
    std::printf("%lld blocks %s\n", static_cast<long long>(blocks), pinned ? "pinned" : "no longer pinned");
  }
  return {};
}

Status RunPin(const FolderCommand& command) { return PinWords(command, true); }
Status RunUnpin(const FolderCommand& command) { return PinWords(command, false); }

Status RunForget(const FolderCommand& command) {
  FATHOM_TRY(const CacheFolder folder, OpenCacheFolder(command.folder));
  int64_t blocks = 0;
  if (command.all) {
    FATHOM_TRY(blocks, folder.cache->ForgetTenant(command.folder.tenant));
  } else {
    FATHOM_TRY(const std::vector<int32_t> tokens, ReadPromptWords(*folder.model, command.words));
    FATHOM_TRY(blocks, folder.cache->Forget(command.folder.tenant, tokens, command.everything));
  }
  if (command.folder.json) {
    PrintJson({{"forgotten_blocks", blocks}});
  } else {
    std::printf("%lld blocks erased and overwritten\n", static_cast<long long>(blocks));
  }
  return {};
}

Status RunGc(const FolderCommand& command) {
  if (command.disk.empty() && command.ttl_hours == 0)
    return Fail(ErrorCode::kInvalidArgument, "say what is too much: --disk SIZE, --ttl HOURS, or both");
  if (!(command.ttl_hours >= 0 && command.ttl_hours < 1e6))
    return Fail(ErrorCode::kInvalidArgument, "--ttl: {} is not a number of hours", command.ttl_hours);
  int64_t disk = 0;
  if (!command.disk.empty()) {
    FATHOM_TRY(disk, ParseByteSize("--disk", command.disk));
    if (disk == 0) {
      return Fail(ErrorCode::kInvalidArgument, "--disk 0: to give up all of it, remove the folder, or 'fathom cache "
                                               "forget --all'");
    }
  }
  const auto total = [&]() -> Result<int64_t> {
    FATHOM_TRY(const std::string directory, FindCacheFolder(command.folder));
    FATHOM_TRY(const auto spaces, ListSpaces(directory));
    int64_t bytes = 0;
    for (const SpaceListing& space : spaces) bytes += space.bytes;
    return bytes;
  };
  FATHOM_TRY(const int64_t before, total());
  int64_t dropped = 0, left = 0;
  {
    FATHOM_TRY(const CacheFolder folder, OpenCacheFolder(command.folder, disk, TtlSeconds(command.ttl_hours)));
    FATHOM_TRY(dropped, folder.cache->CollectGarbage());
    left = static_cast<int64_t>(folder.cache->List().size());
  }
  FATHOM_TRY(const int64_t after, total());
  if (command.folder.json) {
    PrintJson({{"expired_blocks", dropped}, {"blocks", left}, {"freed_bytes", before - after}, {"bytes", after}});
  } else {
    std::printf("%lld blocks had expired, %lld are left; %s of files were removed, %s remain\n",
                static_cast<long long>(dropped), static_cast<long long>(left), HumanBytes(before - after).c_str(),
                HumanBytes(after).c_str());
  }
  return {};
}

using Options = std::shared_ptr<FolderCommand>;

CLI::App* Add(CLI::App& cache, Action& selected, const char* name, const char* about, const char* examples,
              const Options& options, Status (*run)(const FolderCommand&)) {
  CLI::App* command = AddCommand(cache, selected, name, about, examples, options, run);
  AddCacheFolderOptions(*command, options->folder);
  return command;
}

}  // namespace

void RegisterCacheFolder(CLI::App& cache, Action& selected) {
  auto options = std::make_shared<FolderCommand>();
  Add(cache, selected, "ls", "what a cache folder holds",
      "Examples:\n"
      "  fathom cache ls                       the models of which there are blocks\n"
      "  fathom cache ls -m model.gguf         this model's blocks, the last used first",
      options, RunLs)
      ->add_option("--limit", options->limit, "at most so many blocks; 0: all")
      ->capture_default_str();

  options = std::make_shared<FolderCommand>();
  Add(cache, selected, "stat", "how much there is, by tenant", "Example:\n  fathom cache stat -m model.gguf", options,
      RunStat);

  options = std::make_shared<FolderCommand>();
  CLI::App* explain = Add(cache, selected, "explain", "why a prompt would hit or miss",
                          "Examples:\n"
                          "  fathom cache explain -m model.gguf -f prompt.txt\n"
                          "  fathom cache explain -m model.gguf --messages conversation.json\n"
                          "  fathom tokenize model.gguf --ids \"Once upon\" | tr -d '[] ' |\n"
                          "    xargs fathom cache explain -m model.gguf --tokens",
                          options, RunExplain);
  AddPromptWords(*explain, options->words);

  options = std::make_shared<FolderCommand>();
  Add(cache, selected, "verify", "read every block and drop what does not verify",
      "Example:\n  fathom cache verify -m model.gguf\n\nExit status 1 when something was dropped.", options, RunVerify);

  options = std::make_shared<FolderCommand>();
  CLI::App* pin = Add(cache, selected, "pin", "keep a prompt's blocks from being evicted",
                      "Example:\n  fathom cache pin -m model.gguf -f system-prompt.txt", options, RunPin);
  AddPromptWords(*pin, options->words);

  options = std::make_shared<FolderCommand>();
  CLI::App* unpin = Add(cache, selected, "unpin", "let a pinned prompt's blocks be evicted again",
                        "Example:\n  fathom cache unpin -m model.gguf -f system-prompt.txt", options, RunUnpin);
  AddPromptWords(*unpin, options->words);

  options = std::make_shared<FolderCommand>();
  CLI::App* forget = Add(cache, selected, "forget", "erase a conversation, and overwrite it",
                         "Examples:\n"
                         "  fathom cache forget -m model.gguf --messages conversation.json\n"
                         "  fathom cache forget -m model.gguf -f document.txt --everything\n"
                         "\n"
                         "Blocks that other kept prompts share stay, unless --everything.",
                         options, RunForget);
  AddPromptWords(*forget, options->words);
  forget->add_flag("--everything", options->everything, "also what others share, and all that continues it");
  forget->add_flag("--all", options->all, "all of the tenant's prompts");

  options = std::make_shared<FolderCommand>();
  CLI::App* gc = Add(cache, selected, "gc", "make a folder smaller",
                     "Examples:\n"
                     "  fathom cache gc -m model.gguf --ttl 720      what was not used for 30 days\n"
                     "  fathom cache gc -m model.gguf --disk 20GiB   other models' blocks first, then the oldest",
                     options, RunGc);
  gc->add_option("--ttl", options->ttl_hours, "drop what was not used for so many hours")->type_name("HOURS");
  gc->add_option("--disk", options->disk, "remove whole files until all take at most SIZE")->type_name("SIZE");
}

}  // namespace fathom
