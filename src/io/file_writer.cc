#include "io/file_writer.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>

namespace fathom {

Result<std::unique_ptr<FileWriter>> FileWriter::Create(Env& env, const std::string& path, size_t buffer_bytes,
                                                       FileAccess access) {
  if (path.empty()) return Fail(ErrorCode::kInvalidArgument, "no output path given");
  if (env.IsDirectory(path)) return Fail(ErrorCode::kInvalidArgument, "{}: is a directory", path);
  // Process and counter make the name unique among writers of this machine; a stale file of a crashed process with
  // the same number is stepped over.
  static std::atomic<unsigned> counter{0};
  for (int attempt = 0;; ++attempt) {
    const std::string temporary =
        JoinPath(DirectoryOf(path), fmt::format(".{}.{}-{}.part", BaseName(path), ::getpid(), counter.fetch_add(1)));
    auto file = env.Create(temporary, access);
    if (file) {
      return std::unique_ptr<FileWriter>(
          new FileWriter(env, path, temporary, std::move(file).value(), std::max<size_t>(buffer_bytes, 1)));
    }
    if (attempt == 100 || !env.Exists(temporary)) {
      return Fail(file.error().code, "{}: cannot be written: {}", path, file.error().message);
    }
  }
}

FileWriter::FileWriter(Env& env, std::string path, std::string temporary, std::unique_ptr<WritableFile> file,
                       size_t buffer_bytes)
    : env_(env),
      path_(std::move(path)),
      temporary_(std::move(temporary)),
      file_(std::move(file)),
      capacity_(buffer_bytes) {}

FileWriter::~FileWriter() {
  if (finished_) return;
  file_.reset();
  (void)env_.Remove(temporary_);  // nothing more can be done about it here
}

Status FileWriter::Remember(Status status) {
  if (!status && error_) error_ = status;
  return status;
}

Status FileWriter::Flush() {
  if (buffer_.empty()) return {};
  FATHOM_CHECK_OK(Remember(file_->Append(buffer_)));
  buffer_.clear();
  return {};
}

Status FileWriter::Append(std::span<const std::byte> bytes) {
  FATHOM_CHECK_OK(error_);
  if (finished_) return Fail(ErrorCode::kInternal, "{}: written to after Finish", path_);
  position_ += static_cast<int64_t>(bytes.size());
  if (buffer_.size() + bytes.size() > capacity_) FATHOM_CHECK_OK(Flush());
  if (bytes.size() >= capacity_) return Remember(file_->Append(bytes));
  if (buffer_.capacity() == 0) buffer_.reserve(capacity_);
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  return {};
}

Status FileWriter::AppendZeros(int64_t count) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (count > 0) {
    const int64_t piece = std::min<int64_t>(count, kZeros.size());
    FATHOM_CHECK_OK(Append(std::span(kZeros).first(static_cast<size_t>(piece))));
    count -= piece;
  }
  return {};
}

Status FileWriter::Finish() {
  FATHOM_CHECK_OK(error_);
  if (finished_) return Fail(ErrorCode::kInternal, "{}: finished twice", path_);
  FATHOM_CHECK_OK(Flush());
  FATHOM_CHECK_OK(Remember(file_->Sync()));
  FATHOM_CHECK_OK(Remember(file_->Close()));
  FATHOM_CHECK_OK(Remember(env_.Rename(temporary_, path_)));
  finished_ = true;  // the name is taken: from here on there is nothing to clean up
  return env_.SyncDirectory(DirectoryOf(path_));
}

Status WriteWholeFile(Env& env, const std::string& path, std::string_view text, FileAccess access) {
  FATHOM_TRY(const auto file, FileWriter::Create(env, path, FileWriter::kDefaultBuffer, access));
  FATHOM_CHECK_OK(file->Append(std::as_bytes(std::span(text))));
  return file->Finish();
}

}  // namespace fathom
