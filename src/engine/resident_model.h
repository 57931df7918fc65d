// An opened model whose weights lie in memory of this process's own: read once, past the page cache, into huge pages.
//
// A mapped file's pages belong to the page cache: they count against a memory limit, and the kernel takes them away when it
// thinks best. A promise of memory therefore reads what it wants to keep itself. ResidentModel is a ModelFile like the one it
// stands before, but its tensors' bytes are where they were read to; routed experts may be left out, for an ExpertStore to
// bring, and then only Read() may be asked for their bytes (TensorInfo::data still points into the mapping, which nobody
// touches). Everything made from it (weights, layouts, fingerprints) is the same.
//
// Load() is done by one thread; afterwards as ModelFile. Errors of reading are values, a disk that does not answer is one
// too (its reads are left behind with their memory); a file that changed meanwhile is kCorrupt.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/result.h"
#include "experts/model_files.h"
#include "format/model_file.h"
#include "io/env.h"

namespace fathom {

/// Which tensors are read: all but these.
struct ResidentChoice {
  bool experts = true;  // the layers' routed experts
  bool mtp = false;     // layers behind the last one
  std::chrono::milliseconds stall_limit{30'000};  // that the disk may answer nothing at all while loading
};

class ResidentModel final : public ModelFile {
 public:
  /// What loading would take of memory, bytes. Reads nothing.
  static int64_t BytesOf(const ModelFile& file, const ResidentChoice& choice);
  /// progress: told bytes done and in all; false stops (kCancelled); may be empty. Errors: kResource, kCorrupt, kCancelled,
  /// Env's.
  static Result<std::unique_ptr<ResidentModel>> Load(std::unique_ptr<ModelFile> file, Env& env,
                                                     const ResidentChoice& choice,
                                                     const std::function<bool(int64_t, int64_t)>& progress);

  /// The pages that opening a file touched go back to the system: the mapping's, and those of the page cache.
  static void DropHeaders(const ModelFile& file);

  ModelFormat format() const override { return file_->format(); }
  const ModelConfig& config() const override { return file_->config(); }
  const TokenizerSource& tokenizer_source() const override { return file_->tokenizer_source(); }
  std::span<const TensorInfo> tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override;
  std::span<const std::string> files() const override { return file_->files(); }
  std::vector<std::pair<std::string, std::string>> Metadata() const override { return file_->Metadata(); }
  Status Read(const TensorInfo& tensor, int64_t offset, std::span<std::byte> out) const override;
  /// Nothing of it is mapped any more; no advice.
  void Advise(const TensorInfo&, MapAdvice) const override {}
  Status CheckUnchanged() const override { return files_->CheckUnchanged(); }

  int64_t resident_bytes() const { return static_cast<int64_t>(memory_.size()); }
  /// Bytes a second that loading got from the disk; 0: too little was read to tell.
  double read_rate() const { return read_rate_; }
  /// False when a file system cannot read past the page cache: then the cache fills beside this memory.
  bool direct() const;

 private:
  /// A run of whole pages of a file that is read in one go, and where it comes to lie.
  struct Run {
    int32_t file = 0;
    int64_t offset = 0, bytes = 0;
    int64_t at = 0;  // in memory_
  };
  static std::vector<Run> Runs(const ModelFile& file, const ResidentChoice& choice);
  struct Reading;
  Status ReadRuns(const std::vector<Run>& runs, std::chrono::milliseconds stall_limit,
                  const std::function<bool(int64_t, int64_t)>& progress);

  std::unique_ptr<ModelFile> file_;
  std::unique_ptr<ModelFiles> files_;
  AlignedBuffer memory_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> index_;  // keys are the names in tensors_
  double read_rate_ = 0;
};

}  // namespace fathom
