#include "train/shard_file.h"

#include <glob.h>
#include <lzma.h>

#include <algorithm>
#include <set>

namespace fathom {
namespace {

constexpr uint64_t kDecoderMemory = uint64_t{256} << 20;
constexpr size_t kInputBytes = size_t{256} << 10;
constexpr int64_t kMaxSize = int64_t{1} << 50;

std::unexpected<Error> Shrunk(const std::string& path, int64_t at, int64_t expected) {
  return Fail(ErrorCode::kCorrupt, "{}: ends at byte {}, where it had {} bytes when it was opened; was it changed?",
              path, at, expected);
}

class PlainFile final : public ShardFile {
 public:
  PlainFile(std::string path, std::unique_ptr<RandomAccessFile> file)
      : ShardFile(std::move(path), file->size(), file->size()), file_(std::move(file)) {}

  Status Read(int64_t offset, int64_t bytes, std::string& out) override {
    bytes = std::clamp<int64_t>(size() - offset, 0, bytes);
    const size_t before = out.size();
    out.resize(before + static_cast<size_t>(bytes));
    int64_t done = 0;
    while (done < bytes) {
      const std::span<char> rest(out.data() + before + done, static_cast<size_t>(bytes - done));
      FATHOM_TRY(const size_t got, file_->Read(offset + done, std::as_writable_bytes(rest)));
      if (got == 0) return Shrunk(path(), offset + done, size());
      done += static_cast<int64_t>(got);
    }
    return {};
  }

 private:
  std::unique_ptr<RandomAccessFile> file_;
};

std::unexpected<Error> XzError(const std::string& path, lzma_ret code, uint64_t memory) {
  switch (code) {
    case LZMA_MEM_ERROR:
      return Fail(ErrorCode::kResource, "{}: not enough memory to decode it", path);
    case LZMA_MEMLIMIT_ERROR:
      return Fail(ErrorCode::kResource, "{}: decoding it takes {} MiB; at most {} MiB are spent on a file", path,
                  memory >> 20, kDecoderMemory >> 20);
    case LZMA_FORMAT_ERROR:
      return Fail(ErrorCode::kCorrupt, "{}: not an .xz file", path);
    case LZMA_OPTIONS_ERROR:
      return Fail(ErrorCode::kUnsupported, "{}: an .xz file with options that liblzma does not know", path);
    case LZMA_BUF_ERROR:
      return Fail(ErrorCode::kCorrupt, "{}: the .xz file is cut short", path);
    default:
      return Fail(ErrorCode::kCorrupt, "{}: the .xz file is damaged", path);
  }
}

/// A decoder of liblzma that ends itself.
struct Decoder {
  lzma_stream stream = LZMA_STREAM_INIT;
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { lzma_end(&stream); }
};

/// What the file's index (or indexes) say, without decoding.
Result<int64_t> XzUncompressedSize(const RandomAccessFile& file, const std::string& path) {
  if (file.size() == 0) return Fail(ErrorCode::kCorrupt, "{}: an empty file is no .xz file", path);
  Decoder decoder;
  lzma_index* index = nullptr;
  lzma_ret code =
      lzma_file_info_decoder(&decoder.stream, &index, kDecoderMemory, static_cast<uint64_t>(file.size()));
  if (code != LZMA_OK) return XzError(path, code, 0);
  std::vector<uint8_t> input(size_t{16} << 10);
  int64_t position = 0;
  while (true) {
    if (decoder.stream.avail_in == 0) {
      FATHOM_TRY(const size_t got, file.Read(position, std::as_writable_bytes(std::span(input))));
      position += static_cast<int64_t>(got);
      decoder.stream.next_in = input.data();
      decoder.stream.avail_in = got;
    }
    code = lzma_code(&decoder.stream, decoder.stream.avail_in == 0 ? LZMA_FINISH : LZMA_RUN);
    if (code == LZMA_SEEK_NEEDED) {
      position = static_cast<int64_t>(decoder.stream.seek_pos);
      decoder.stream.avail_in = 0;
    } else if (code == LZMA_STREAM_END) {
      break;
    } else if (code != LZMA_OK) {
      const uint64_t needed = code == LZMA_MEMLIMIT_ERROR ? lzma_memusage(&decoder.stream) : 0;
      // The end of a file that was cut short is where an index should be and is not.
      if (code == LZMA_DATA_ERROR) {
        return Fail(ErrorCode::kCorrupt, "{}: the .xz file is damaged or cut short", path);
      }
      if (code == LZMA_FORMAT_ERROR && file.size() > 12) {
        return Fail(ErrorCode::kCorrupt, "{}: not an .xz file, or cut short", path);
      }
      return XzError(path, code, needed);
    }
  }
  const auto size = static_cast<int64_t>(lzma_index_uncompressed_size(index));
  lzma_index_end(index, nullptr);
  if (size < 0 || size > kMaxSize) return Fail(ErrorCode::kCorrupt, "{}: the .xz index is not plausible", path);
  return size;
}

class XzFile final : public ShardFile {
 public:
  XzFile(std::string path, std::unique_ptr<RandomAccessFile> file, int64_t size)
      : ShardFile(std::move(path), size, file->size()), file_(std::move(file)) {}

  Status Read(int64_t offset, int64_t bytes, std::string& out) override {
    bytes = std::clamp<int64_t>(size() - offset, 0, bytes);
    if (bytes == 0) return {};
    if (decoder_ == nullptr || offset < position_) FATHOM_CHECK_OK(Rewind());
    std::vector<char> skipped;
    while (position_ < offset) {
      skipped.resize(static_cast<size_t>(std::min<int64_t>(offset - position_, 1 << 20)));
      FATHOM_CHECK_OK(Decode(skipped));
    }
    const size_t before = out.size();
    out.resize(before + static_cast<size_t>(bytes));
    return Decode(std::span(out).subspan(before));
  }

 private:
  Status Rewind() {
    decoder_ = std::make_unique<Decoder>();
    const lzma_ret code = lzma_stream_decoder(&decoder_->stream, kDecoderMemory, LZMA_CONCATENATED);
    if (code != LZMA_OK) return XzError(path(), code, 0);
    input_.resize(kInputBytes);
    position_ = input_position_ = 0;
    return {};
  }

  /// Fills `out`.
  Status Decode(std::span<char> out) {
    lzma_stream& stream = decoder_->stream;
    stream.next_out = reinterpret_cast<uint8_t*>(out.data());
    stream.avail_out = out.size();
    while (stream.avail_out > 0) {
      if (stream.avail_in == 0) {
        FATHOM_TRY(const size_t got, file_->Read(input_position_, std::as_writable_bytes(std::span(input_))));
        input_position_ += static_cast<int64_t>(got);
        stream.next_in = input_.data();
        stream.avail_in = got;
      }
      const lzma_ret code = lzma_code(&stream, stream.avail_in == 0 ? LZMA_FINISH : LZMA_RUN);
      if (code == LZMA_OK) continue;
      const int64_t done = position_ + static_cast<int64_t>(out.size() - stream.avail_out);
      if (code == LZMA_STREAM_END) {
        if (stream.avail_out == 0) break;
        decoder_.reset();
        return Shrunk(path(), done, size());
      }
      const auto failed = XzError(path(), code, code == LZMA_MEMLIMIT_ERROR ? lzma_memusage(&stream) : 0);
      decoder_.reset();  // never goes on from a broken state
      return failed;
    }
    position_ += static_cast<int64_t>(out.size());
    return {};
  }

  std::unique_ptr<RandomAccessFile> file_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<uint8_t> input_;
  int64_t position_ = 0;        // uncompressed
  int64_t input_position_ = 0;  // compressed
};

}  // namespace

Result<std::unique_ptr<ShardFile>> ShardFile::Open(Env& env, const std::string& path) {
  FATHOM_TRY(auto file, env.OpenForReading(path));
  if (!path.ends_with(".xz")) return std::make_unique<PlainFile>(path, std::move(file));
  FATHOM_TRY(const int64_t size, XzUncompressedSize(*file, path));
  return std::make_unique<XzFile>(path, std::move(file), size);
}

Result<std::vector<std::string>> ExpandPaths(Env& env, const std::vector<std::string>& patterns) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const std::string& pattern : patterns) {
    std::vector<std::string> found;
    if (env.Exists(pattern) || pattern.find_first_of("*?[") == std::string::npos) {
      found.push_back(pattern);  // a name is itself, also when it has such characters
    } else {
      glob_t matches = {};
      const int code = glob(pattern.c_str(), 0, nullptr, &matches);
      if (code == 0) found.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
      globfree(&matches);
      if (code != 0 && code != GLOB_NOMATCH) {
        return Fail(ErrorCode::kIo, "{}: its folder cannot be read", pattern);
      }
      std::sort(found.begin(), found.end());
    }
    if (found.empty()) return Fail(ErrorCode::kNotFound, "{}: no file matches", pattern);
    for (std::string& path : found) {
      if (!env.Exists(path)) return Fail(ErrorCode::kNotFound, "{}: no such file", path);
      if (env.IsDirectory(path)) {
        return Fail(ErrorCode::kInvalidArgument, "{}: a folder; name its files, as {}", path, JoinPath(path, "*.txt"));
      }
      if (seen.insert(path).second) out.push_back(std::move(path));
    }
  }
  return out;
}

Result<ShardFormat> FormatOfShard(const std::string& path) {
  std::string_view name = path;
  if (name.ends_with(".xz")) name.remove_suffix(3);
  for (const std::string_view ending : {".gz", ".zst", ".bz2", ".zip", ".parquet"}) {
    if (name.ends_with(ending)) {
      return Fail(ErrorCode::kUnsupported, "{}: {} files are not read; .txt and .jsonl are, plain or .xz", path, ending);
    }
  }
  return name.ends_with(".jsonl") ? ShardFormat::kJsonLines : ShardFormat::kText;
}

int64_t LineAt(Env& env, const std::string& path, int64_t offset) {
  const auto file = ShardFile::Open(env, path);
  if (!file) return 0;
  int64_t line = 1;
  std::string part;
  for (int64_t at = 0; at < std::min(offset, (*file)->size()); at += static_cast<int64_t>(part.size())) {
    part.clear();
    if (!(*file)->Read(at, std::min<int64_t>(offset - at, 1 << 20), part) || part.empty()) return 0;
    line += std::count(part.begin(), part.end(), '\n');
  }
  return line;
}

}  // namespace fathom
