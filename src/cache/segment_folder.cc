#include "cache/segment_folder.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/log.h"
#include "io/page_buffer.h"

namespace fathom {
namespace {

constexpr std::string_view kLockName = "fathom-kv.lock";

bool IsSpaceName(const std::string& name) {
  return name.size() == 32 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// The number in "kv-00000012.seg".
std::optional<uint64_t> SegmentNumber(const std::string& name) {
  constexpr std::string_view kBegin = "kv-", kEnd = ".seg";
  if (name.size() < kBegin.size() + 8 + kEnd.size() || name.size() > 30 || !name.starts_with(kBegin) ||
      !name.ends_with(kEnd)) {
    return std::nullopt;
  }
  uint64_t number = 0;
  for (char c : name.substr(kBegin.size(), name.size() - kBegin.size() - kEnd.size())) {
    if (c < '0' || c > '9' || number > (uint64_t{1} << 58)) return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  return number;
}

int64_t Now() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

Result<std::unique_ptr<SegmentFolder>> SegmentFolder::Open(Env& env, const SegmentInfo& prototype,
                                                           const Options& options, const std::string& key_file) {
  std::unique_ptr<SegmentFolder> folder(new SegmentFolder(env, prototype, options));
  FATHOM_CHECK_OK(folder->Prepare());
  FATHOM_CHECK_OK(folder->Survey(key_file));
  FATHOM_CHECK_OK(folder->KeepWithinCapacity());
  for (Segment& segment : folder->segments_) {
    if (segment.usable_slots == segment.info.slots) continue;
    // Somebody cut it short; whole again, with empty slots at the end.
    if (segment.file->Allocate(segment.info.file_bytes())) segment.usable_slots = segment.info.slots;
    Tick(options.progress);
  }
  return folder;
}

Status SegmentFolder::RemoveAll(Env& env, const std::string& directory) {
  if (!env.Exists(JoinPath(directory, std::string(kLockName)))) return {};  // not a cache folder
  FATHOM_TRY(const auto lock, env.LockFile(JoinPath(directory, std::string(kLockName))));
  FATHOM_TRY(const auto spaces, env.List(directory));
  for (const std::string& space : spaces) {
    const std::string folder = JoinPath(directory, space);
    if (!IsSpaceName(space) || !env.IsDirectory(folder)) continue;
    FATHOM_TRY(const auto names, env.List(folder));
    for (const std::string& name : names)
      if (SegmentNumber(name)) FATHOM_CHECK_OK(env.Remove(JoinPath(folder, name)));
  }
  return {};
}

Status SegmentFolder::Prepare() {
  const std::string& directory = options_.directory;
  if (env_.IsDirectory(directory)) {
    FATHOM_TRY(const auto names, env_.List(directory));
    const bool empty = std::all_of(names.begin(), names.end(), [](const auto& name) { return name == "lost+found"; });
    if (!empty && std::find(names.begin(), names.end(), kLockName) == names.end()) {
      return Fail(ErrorCode::kCorrupt, "{}: is not a cache folder (it has files, but no {}); name an empty or new one",
                  directory, kLockName);
    }
  } else {
    FATHOM_CHECK_OK(env_.CreateDirectories(directory));
  }
  FATHOM_TRY(lock_, env_.LockFile(JoinPath(directory, std::string(kLockName))));
  own_ = JoinPath(directory, ToHex(prototype_.space));
  return env_.CreateDirectories(own_);
}

Status SegmentFolder::Survey(const std::string& key_file) {
  FATHOM_TRY(const auto spaces, env_.List(options_.directory));
  for (const std::string& space : spaces) {
    const std::string folder = JoinPath(options_.directory, space);
    if (!IsSpaceName(space) || !env_.IsDirectory(folder)) continue;
    FATHOM_TRY(const auto names, env_.List(folder));
    for (const std::string& name : names) {
      const auto number = SegmentNumber(name);
      const std::string path = JoinPath(folder, name);
      if (!number) continue;
      if (folder == own_) {
        next_number_ = std::max(next_number_, *number + 1);
        FATHOM_CHECK_OK(OpenOwn(path, key_file));
        Tick(options_.progress);
        continue;
      }
      const auto bytes = env_.FileSize(path);
      if (!bytes) continue;  // not a file, or gone
      strangers_.push_back({path, *bytes, env_.ModifiedSeconds(path).value_or(0)});
    }
  }
  std::sort(segments_.begin(), segments_.end(),
            [](const Segment& a, const Segment& b) { return a.info.number < b.info.number; });
  std::sort(strangers_.begin(), strangers_.end(), [](const Stranger& a, const Stranger& b) {
    return std::tie(b.modified, b.path) < std::tie(a.modified, a.path);
  });
  for (const Stranger& stranger : strangers_) stranger_bytes_ += stranger.bytes;
  return {};
}

Status SegmentFolder::OpenOwn(const std::string& path, const std::string& key_file) {
  const auto unusable = [&](const std::string& why) -> Status {
    spdlog::warn("{}: not used: {}", path, why);
    // Not the youngest of strangers but the oldest: nobody can use it.
    if (const auto bytes = env_.FileSize(path)) strangers_.push_back({path, *bytes, 0});
    return {};
  };
  auto file = env_.OpenDirect(path, {.direct = options_.direct_io});
  if (!file && file.error().code == ErrorCode::kResource) return std::unexpected(file.error());  // descriptors
  if (!file) return unusable(file.error().message);
  FATHOM_TRY(PageBuffer page, PageBuffer::Allocate(kSegmentPage));
  if (auto status = (*file)->Read(0, page.span()); !status) return unusable(status.error().message);
  auto info = DecodeSuperblock(page.span());
  if (!info && info.error().code == ErrorCode::kUnsupported) return Prefix(info.error(), path);
  if (!info) return unusable(info.error().message);
  if (info->space != prototype_.space || info->layers != prototype_.layers || info->row_bytes != prototype_.row_bytes ||
      info->row_values != prototype_.row_values || info->dtype != prototype_.dtype ||
      info->row_tail != prototype_.row_tail || info->row_group != prototype_.row_group) {
    return unusable("it is of another space");
  }
  if (info->encrypted && !prototype_.encrypted) {
    return Fail(ErrorCode::kUnsupported, "{}: is encrypted; name its key file, or use another cache folder", path);
  }
  if (!info->encrypted && prototype_.encrypted) {
    return Fail(ErrorCode::kInvalidArgument,
                "{}: is not encrypted; use another cache folder with {}, or delete this one", path, key_file);
  }
  if (info->key_id != prototype_.key_id) {
    return Fail(ErrorCode::kInvalidArgument,
                "{}: is encrypted with another key than {}'s; name the right key file, or use another cache folder",
                path, key_file);
  }
  FATHOM_TRY(const int64_t bytes, (*file)->Size());
  const int64_t whole = info->whole_slots(bytes);
  own_bytes_ += info->file_bytes();
  segments_.push_back({*info, std::move(*file), whole});
  return {};
}

Status SegmentFolder::KeepWithinCapacity() {
  while (room() < 0 && !strangers_.empty()) FATHOM_CHECK_OK(RemoveStranger());
  // The user wants less than what this space alone has: its oldest segments go.
  size_t gone = 0;
  while (room() < 0 && gone < segments_.size()) {
    const Segment& segment = segments_[gone++];
    FATHOM_CHECK_OK(env_.Remove(segment.file->path()));
    Tick(options_.progress);
    own_bytes_ -= segment.info.file_bytes();
  }
  segments_.erase(segments_.begin(), segments_.begin() + static_cast<int64_t>(gone));
  return {};
}

Status SegmentFolder::RemoveStranger() {
  const Stranger stranger = strangers_.back();
  FATHOM_CHECK_OK(env_.Remove(stranger.path));
  Tick(options_.progress);
  strangers_.pop_back();
  stranger_bytes_ -= stranger.bytes;
  return {};
}

Result<SegmentFolder::Segment> SegmentFolder::Make() {
  const int64_t slot_bytes = prototype_.slot_bytes();
  const int64_t full = std::clamp<int64_t>((options_.segment_bytes - kSegmentPage) / slot_bytes, 1, kSegmentMostSlots);
  while (room() < kSegmentPage + full * slot_bytes && !strangers_.empty()) FATHOM_CHECK_OK(RemoveStranger());
  const int64_t slots = std::min(full, (room() - kSegmentPage) / slot_bytes);
  if (room() < kSegmentPage + slot_bytes) {
    return Fail(ErrorCode::kResource, "{}: its capacity of {} bytes is used up", options_.directory,
                options_.capacity_bytes);
  }
  for (;;) {
    auto segment = MakeOf(slots);
    if (segment || segment.error().code != ErrorCode::kResource || strangers_.empty()) return segment;
    FATHOM_CHECK_OK(RemoveStranger());  // the device is full: the same remedy
  }
}

Result<SegmentFolder::Segment> SegmentFolder::MakeOf(int64_t slots) {
  Segment segment{prototype_, nullptr, slots};
  segment.info.slots = slots;
  segment.info.number = next_number_;
  segment.info.created_at = Now();
  const std::string path = JoinPath(own_, fmt::format("kv-{:08}.seg", next_number_));
  const auto fill = [&]() -> Status {
    FATHOM_TRY(segment.file, env_.OpenDirect(path, {.create = true, .direct = options_.direct_io}));
    FATHOM_CHECK_OK(segment.file->Allocate(segment.info.file_bytes()));
    Tick(options_.progress);
    FATHOM_TRY(PageBuffer page, PageBuffer::Allocate(kSegmentPage));
    EncodeSuperblock(segment.info, page.span());
    FATHOM_CHECK_OK(segment.file->Write(0, page.span()));
    FATHOM_CHECK_OK(segment.file->Sync());
    FATHOM_CHECK_OK(env_.SyncDirectory(own_));
    return env_.SyncDirectory(options_.directory);
  };
  if (auto status = fill(); !status) {
    segment.file.reset();
    (void)env_.Remove(path);  // what is left of it, if anything
    return std::unexpected(std::move(status).error());
  }
  ++next_number_;
  own_bytes_ += segment.info.file_bytes();
  return segment;
}

}  // namespace fathom
