#include "cli/wheel.h"

#include <zip.h>

#include <memory>
#include <vector>

#include "cli/part_file.h"
#include "cli/sha256.h"
#include "cli/terminal.h"

namespace fathom {
namespace {

struct CloseArchive {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct CloseMember {
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};

Status CopyMember(zip_file_t* in, const std::string& where, int64_t size, PartFile& out, const std::string& sha256,
                  const std::function<bool(int64_t, int64_t)>& progress) {
  std::vector<char> buffer(1 << 20);
  Sha256 sha;
  for (;;) {
    const zip_int64_t got = zip_fread(in, buffer.data(), buffer.size());
    if (got < 0) return Fail(ErrorCode::kCorrupt, "{}: {}", where, zip_file_strerror(in));  // CRC included
    if (got == 0) break;
    if (out.size() + got > size)
      return Fail(ErrorCode::kCorrupt, "{}: longer than the {} bytes it declares", where, size);
    sha.Add(buffer.data(), static_cast<size_t>(got));
    FATHOM_CHECK_OK(out.Append(buffer.data(), static_cast<size_t>(got)));
    if (progress && !progress(out.size(), size)) return Fail(ErrorCode::kCancelled, "interrupted");
  }
  if (out.size() != size) return Fail(ErrorCode::kCorrupt, "{}: {} bytes of {}", where, out.size(), size);
  const std::string found = sha.Finish();
  if (!sha256.empty() && found != sha256) {
    return Fail(ErrorCode::kCorrupt, "{}: SHA-256 is {}, {} was expected", where, found, sha256);
  }
  return {};
}

}  // namespace

Status ExtractMember(const std::filesystem::path& archive_path, const std::string& member,
                     const std::filesystem::path& destination, int64_t bytes, const std::string& sha256,
                     const std::function<bool(int64_t, int64_t)>& progress) {
  constexpr int64_t kMost = int64_t{1} << 40;
  int error = 0;
  std::unique_ptr<zip_t, CloseArchive> archive(zip_open(archive_path.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &error));
  if (!archive) {
    zip_error_t words;
    zip_error_init_with_code(&words, error);
    auto failure = Fail(ErrorCode::kCorrupt, "{}: {}", archive_path.string(), zip_error_strerror(&words));
    zip_error_fini(&words);
    return failure;
  }
  const std::string where = archive_path.filename().string() + ": " + member;
  zip_stat_t status;
  if (zip_stat(archive.get(), member.c_str(), 0, &status) != 0 || (status.valid & ZIP_STAT_SIZE) == 0) {
    return Fail(ErrorCode::kNotFound, "{}: not in the archive", where);
  }
  if (status.size > static_cast<zip_uint64_t>(kMost))
    return Fail(ErrorCode::kCorrupt, "{}: {} bytes", where, status.size);
  const auto size = static_cast<int64_t>(status.size);
  if (bytes >= 0 && size != bytes)
    return Fail(ErrorCode::kCorrupt, "{}: {} bytes, {} were expected", where, size, bytes);
  const int64_t free = FreeDiskSpace(destination.parent_path());
  if (free >= 0 && size > free) {
    return Fail(ErrorCode::kResource, "{}: needs {} and only {} are free", destination.string(), HumanBytes(size),
                HumanBytes(free));
  }
  FATHOM_TRY(PartFile part, PartFile::Open(destination, [&] { return !progress || progress(0, size); }));
  if (part.done()) return {};
  FATHOM_CHECK_OK(part.Restart());
  std::unique_ptr<zip_file_t, CloseMember> file(zip_fopen(archive.get(), member.c_str(), 0));
  if (!file) return Fail(ErrorCode::kCorrupt, "{}: {}", where, zip_strerror(archive.get()));
  if (Status copied = CopyMember(file.get(), where, size, part, sha256, progress); !copied) {
    part.Discard();
    return copied;
  }
  return part.Commit();
}

}  // namespace fathom
