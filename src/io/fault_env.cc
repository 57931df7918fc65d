#include "io/fault_env.h"

#include <algorithm>
#include <cstring>

namespace fathom {
namespace {

std::unexpected<Error> Injected(const std::string& path, const char* what) {
  return Fail(ErrorCode::kIo, "{}: {}: injected fault", path, what);
}

class FaultReader : public RandomAccessFile {
 public:
  FaultReader(const FaultEnv& env, std::string path, std::unique_ptr<RandomAccessFile> base)
      : env_(env), path_(std::move(path)), base_(std::move(base)) {}
  int64_t size() const override { return base_->size(); }
  Result<size_t> Read(int64_t offset, std::span<std::byte> out) const override {
    const Faults& faults = env_.faults;
    if (faults.max_read > 0 && out.size() > faults.max_read) out = out.first(faults.max_read);
    if (faults.fail_reads_from >= 0 && offset + static_cast<int64_t>(out.size()) > faults.fail_reads_from) {
      return Injected(path_, "cannot read");
    }
    return base_->Read(offset, out);
  }

 private:
  const FaultEnv& env_;
  std::string path_;
  std::unique_ptr<RandomAccessFile> base_;
};

class FaultWriter : public WritableFile {
 public:
  FaultWriter(FaultEnv& env, std::string path, std::unique_ptr<WritableFile> base)
      : env_(env), path_(std::move(path)), base_(std::move(base)) {}
  Status Append(std::span<const std::byte> bytes) override {
    const int64_t limit = env_.faults.fail_write_after;
    const auto size = static_cast<int64_t>(bytes.size());
    const int64_t allowed = limit < 0 ? size : std::clamp<int64_t>(limit - env_.bytes_appended, 0, size);
    FATHOM_CHECK_OK(base_->Append(bytes.first(static_cast<size_t>(allowed))));
    env_.bytes_appended += allowed;
    if (allowed < size) return Fail(ErrorCode::kResource, "{}: cannot write: injected: no space left", path_);
    return {};
  }
  Status Sync() override {
    if (env_.faults.fail_sync) return Injected(path_, "cannot sync");
    ++env_.syncs;
    return base_->Sync();
  }
  Status Close() override {
    FATHOM_CHECK_OK(base_->Close());
    if (env_.faults.fail_close) return Injected(path_, "cannot close");
    return {};
  }

 private:
  FaultEnv& env_;
  std::string path_;
  std::unique_ptr<WritableFile> base_;
};

}  // namespace

Result<std::unique_ptr<MappedFile>> FaultEnv::Map(const std::string& path, const MapOptions& options) {
  if (!Applies(path)) return base_.Map(path, options);
  if (faults.fail_map) return Injected(path, "cannot map");
  FATHOM_TRY(auto real, base_.Map(path, options));
  if (faults.map_truncate < 0 && faults.map_xor.empty() && faults.shrink_after_map < 0) return real;
  // A copy, exactly as long as the file is to look, so that the address sanitizer sees any step past its end.
  const int64_t size = faults.map_truncate >= 0 ? std::min(faults.map_truncate, real->size()) : real->size();
  auto copy =
      std::make_shared<std::unique_ptr<std::byte[]>>(new std::byte[static_cast<size_t>(std::max<int64_t>(size, 1))]);
  if (size > 0) std::memcpy(copy->get(), real->bytes().data(), static_cast<size_t>(size));
  for (const auto& [offset, bits] : faults.map_xor) {
    if (offset >= 0 && offset < size) copy->get()[offset] ^= std::byte{bits};
  }
  const std::span<const std::byte> bytes(copy->get(), static_cast<size_t>(size));
  const int64_t seen = faults.shrink_after_map >= 0 ? faults.shrink_after_map : size;
  return std::make_unique<MappedFile>(
      path, bytes, [copy] { copy->reset(); }, [seen]() -> Result<int64_t> { return seen; }, nullptr);
}

Result<std::unique_ptr<RandomAccessFile>> FaultEnv::OpenForReading(const std::string& path) {
  if (!Applies(path)) return base_.OpenForReading(path);
  if (faults.fail_open) return Injected(path, "cannot open");
  FATHOM_TRY(auto file, base_.OpenForReading(path));
  return std::make_unique<FaultReader>(*this, path, std::move(file));
}

Result<std::unique_ptr<WritableFile>> FaultEnv::Create(const std::string& path, FileAccess access) {
  if (!Applies(path)) return base_.Create(path, access);
  if (faults.fail_create) return Injected(path, "cannot create");
  FATHOM_TRY(auto file, base_.Create(path, access));
  return std::make_unique<FaultWriter>(*this, path, std::move(file));
}

Status FaultEnv::Rename(const std::string& from, const std::string& to) {
  if (Applies(to) && faults.fail_rename) return Injected(to, "cannot rename");
  return base_.Rename(from, to);
}

Status FaultEnv::SyncDirectory(const std::string& path) {
  if (faults.fail_sync_directory) return Injected(path, "cannot sync");
  return base_.SyncDirectory(path);
}

Status FaultEnv::CreateDirectories(const std::string& path) {
  if (Applies(path) && faults.fail_create) return Injected(path, "cannot make the folder");
  return base_.CreateDirectories(path);
}

Result<std::unique_ptr<FileLock>> FaultEnv::LockFile(const std::string& path) {
  if (Applies(path) && faults.fail_lock) return Injected(path, "cannot lock");
  return base_.LockFile(path);
}

Result<int64_t> FaultEnv::FreeSpace(const std::string& path) {
  if (faults.free_space >= 0) return faults.free_space;
  return base_.FreeSpace(path);
}

}  // namespace fathom
