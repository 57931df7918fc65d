#include "experts/model_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>

namespace fathom {
namespace {

constexpr int64_t kPage = DirectFile::kAlignment;

}  // namespace

Result<std::unique_ptr<ModelFiles>> ModelFiles::Open(Env& env, std::span<const std::string> paths, bool direct) {
  std::unique_ptr<ModelFiles> all(new ModelFiles(env));
  for (const std::string& path : paths) {
    File& entry = all->files_.emplace_back();
    FATHOM_TRY(entry.file, env.OpenDirect(path, {.direct = direct, .random = true}));
    FATHOM_TRY(entry.stamp, all->StampOf(*entry.file));
    const int64_t whole = entry.stamp.size / kPage * kPage;
    if (whole == entry.stamp.size) continue;
    entry.tail.resize(static_cast<size_t>(entry.stamp.size - whole));
    FATHOM_TRY(const auto reader, env.OpenForReading(path));
    FATHOM_CHECK_OK(ReadExactly(*reader, path, whole, entry.tail));
    FATHOM_CHECK_OK(all->CheckUnchanged(static_cast<int32_t>(all->files_.size()) - 1));
  }
  return all;
}

bool ModelFiles::direct() const {
  return std::ranges::all_of(files_, [](const File& entry) { return entry.file->is_direct(); });
}

int64_t ModelFiles::Readable(int32_t index, int64_t offset, int64_t bytes) const {
  const int64_t whole = files_[index].stamp.size / kPage * kPage;
  return std::clamp<int64_t>(whole - offset, 0, bytes);
}

void ModelFiles::CopyTail(int32_t index, int64_t offset, int64_t bytes, std::byte* out) const {
  const File& entry = files_[index];
  const int64_t whole = entry.stamp.size / kPage * kPage;
  if (offset + bytes <= whole || entry.tail.empty()) return;
  const int64_t count = std::min(static_cast<int64_t>(entry.tail.size()), offset + bytes - whole);
  std::memcpy(out + (whole - offset), entry.tail.data(), static_cast<size_t>(count));
}

Result<ModelFiles::Stamp> ModelFiles::StampOf(const DirectFile& file) const {
  Stamp stamp;
  struct stat info{};
  if (file.descriptor() >= 0 && ::fstat(file.descriptor(), &info) == 0) {
    stamp = {info.st_size, int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec, info.st_ino, info.st_dev};
    return stamp;
  }
  FATHOM_TRY(stamp.size, file.Size());
  FATHOM_TRY(stamp.modified, env_.ModifiedSeconds(file.path()));
  return stamp;
}

Status ModelFiles::CheckUnchanged(int32_t index) const {
  const File& entry = files_[index];
  FATHOM_TRY(const Stamp now, StampOf(*entry.file));
  if (now == entry.stamp) return {};
  return Fail(ErrorCode::kCorrupt,
              "{}: the model file was changed while in use ({} bytes, before {}); load the model again, and replace "
              "models by renaming", entry.file->path(), now.size, entry.stamp.size);
}

Status ModelFiles::CheckUnchanged() const {
  for (size_t i = 0; i < files_.size(); ++i) FATHOM_CHECK_OK(CheckUnchanged(static_cast<int32_t>(i)));
  return {};
}

}  // namespace fathom
