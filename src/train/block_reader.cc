#include "train/block_reader.h"

#include <algorithm>
#include <numeric>

#include "train/rng.h"
#include "train/state_json.h"

namespace fathom {
namespace {

constexpr int64_t kAlignWindow = 64 << 10;

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

/// The last place in (begin, end] of `text` where prose is best cut: after a document's end, else after a run of empty
/// lines, else after a line, else after a space, else between two characters. Never begin.
size_t BestCut(std::string_view text, size_t begin, size_t end) {
  const std::string_view window = text.substr(begin, end - begin);
  if (const size_t at = window.rfind(kDocumentSeparator); at != std::string_view::npos) {
    return begin + at + kDocumentSeparator.size();
  }
  if (const size_t at = window.rfind("\n\n"); at != std::string_view::npos) return begin + at + 2;
  if (const size_t at = window.rfind('\n'); at != std::string_view::npos) return begin + at + 1;
  if (const size_t at = window.rfind(' '); at != std::string_view::npos && at > 0) return begin + at;
  size_t cut = end;
  while (cut > begin + 1 && cut < text.size() && IsContinuation(text[cut])) --cut;
  return cut > begin + 1 ? cut : end;
}

}  // namespace

Result<BlockReader> BlockReader::Open(Env& env, const std::vector<std::string>& patterns,
                                      const BlockReaderOptions& options) {
  BlockReader reader(env, options);
  FATHOM_TRY(const auto paths, ExpandPaths(env, patterns));
  for (const std::string& path : paths) {
    FATHOM_TRY(const auto shard, ShardFile::Open(env, path));
    FileInfo info{.path = path, .size = shard->size()};
    FATHOM_TRY(info.format, FormatOfShard(path));
    const auto held = static_cast<int64_t>(static_cast<double>(info.size) * options.held_out_share);
    const int64_t boundary = info.size - std::clamp<int64_t>(held, 0, info.size);
    info.begin = options.held_out ? boundary : 0;
    info.end = options.held_out ? info.size : boundary;
    reader.total_ += info.end - info.begin;
    reader.files_.push_back(std::move(info));
  }
  reader.BeginEpoch();
  return reader;
}

void BlockReader::BeginEpoch() {
  order_.resize(files_.size());
  std::iota(order_.begin(), order_.end(), 0);
  Shuffle(order_, HashNumbers({options_.seed, static_cast<uint64_t>(epoch_), 1}));
  next_file_ = 0;
  draws_ = 0;
  lanes_.clear();
}

Result<int64_t> BlockReader::Align(ShardFile& shard, const FileInfo& info, int64_t offset) {
  if (offset <= 0 || offset >= info.size) return std::clamp<int64_t>(offset, 0, info.size);
  const int64_t base = std::max<int64_t>(offset - 2, 0);
  std::string text;
  for (int64_t window = kAlignWindow;; window *= 4) {
    FATHOM_CHECK_OK(shard.Read(base + static_cast<int64_t>(text.size()),
                               offset + window - base - static_cast<int64_t>(text.size()), text));
    const bool whole = base + static_cast<int64_t>(text.size()) >= info.size;
    const auto from = static_cast<size_t>(offset - base);
    if (info.format == ShardFormat::kText) {
      if (const size_t at = text.find("\n\n", from - std::min<size_t>(from, 2)); at != std::string::npos) {
        return base + static_cast<int64_t>(at) + 2;
      }
    }
    if (const size_t at = text.find('\n', from - 1); at != std::string::npos) return base + static_cast<int64_t>(at) + 1;
    if (whole) return info.size;
    if (info.format == ShardFormat::kText) {
      size_t at = from;
      while (at < text.size() && at < from + 3 && IsContinuation(text[at])) ++at;
      return base + static_cast<int64_t>(at);
    }
    if (window > kMaxLine) {
      return Fail(ErrorCode::kCorrupt, "{}: no end of a line within {} MiB after byte {}", info.path, kMaxLine >> 20,
                  offset);
    }
  }
}

Status BlockReader::OpenLane(Lane& lane, int file) {
  const FileInfo& info = files_[file];
  FATHOM_TRY(lane.shard, ShardFile::Open(*env_, info.path));
  if (lane.shard->size() != info.size) {
    return Fail(ErrorCode::kCorrupt, "{}: was changed while it was in use ({} bytes, {} before)", info.path,
                lane.shard->size(), info.size);
  }
  lane.file = file;
  return {};
}

Status BlockReader::FillLanes() {
  while (static_cast<int>(lanes_.size()) < options_.lanes && next_file_ < order_.size()) {
    const int file = order_[next_file_++];
    if (files_[file].begin >= files_[file].end) continue;
    Lane lane;
    FATHOM_CHECK_OK(OpenLane(lane, file));
    FATHOM_TRY(const int64_t begin, Align(*lane.shard, files_[file], files_[file].begin));
    FATHOM_CHECK_OK(LoadChunk(lane, begin));
    if (!lane.blocks.empty() || !lane.last) lanes_.push_back(std::move(lane));
  }
  return {};
}

Status BlockReader::LoadChunk(Lane& lane, int64_t begin) {
  const FileInfo& info = files_[lane.file];
  // What the last chunk left over is kept, so that an .xz file is never read backwards.
  std::string text;
  if (lane.chunk_begin >= 0 && begin >= lane.chunk_begin) {
    const auto consumed = static_cast<size_t>(begin - lane.chunk_begin);
    if (consumed < lane.text.size()) text = lane.text.substr(consumed);
  }
  lane.chunk_begin = begin;
  lane.used = 0;
  lane.blocks.clear();
  for (int64_t wanted = options_.chunk_bytes;; wanted *= 2) {
    const auto have = static_cast<int64_t>(text.size());
    if (have < wanted) FATHOM_CHECK_OK(lane.shard->Read(begin + have, wanted - have, text));
    const std::string_view window = std::string_view(text).substr(0, static_cast<size_t>(std::min<int64_t>(
                                                                         wanted, static_cast<int64_t>(text.size()))));
    lane.last = begin + static_cast<int64_t>(window.size()) >= info.end;
    if (lane.last) {
      // The part ends where the next paragraph or line begins, which is where the other part begins.
      int64_t end = info.size;
      if (info.end < info.size) {
        // Read past the window only through a reader of its own: this one must not go back.
        const int64_t reach = info.end + kAlignWindow;
        const auto now = static_cast<int64_t>(text.size());
        if (begin + now < reach) FATHOM_CHECK_OK(lane.shard->Read(begin + now, reach - begin - now, text));
        FATHOM_TRY(auto probe, ShardFile::Open(*env_, info.path));
        FATHOM_TRY(end, Align(*probe, info, info.end));
        const auto grown = static_cast<int64_t>(text.size());
        if (begin + grown < end) FATHOM_CHECK_OK(lane.shard->Read(begin + grown, end - begin - grown, text));
      }
      lane.chunk_end = std::max(end, begin);
      break;
    }
    if (info.format == ShardFormat::kText) {
      lane.chunk_end = begin + static_cast<int64_t>(BestCut(window, window.size() / 2, window.size()));
      break;
    }
    if (const size_t at = window.rfind('\n'); at != std::string_view::npos) {
      lane.chunk_end = begin + static_cast<int64_t>(at) + 1;
      break;
    }
    if (wanted > kMaxLine) {
      return Fail(ErrorCode::kCorrupt, "{}: the line that begins at byte {} is longer than {} MiB", info.path, begin,
                  kMaxLine >> 20);
    }
  }
  lane.text = std::move(text);
  if (info.format == ShardFormat::kText) CutProse(lane);
  else CutLines(lane);
  Shuffle(lane.blocks, HashNumbers({options_.seed, static_cast<uint64_t>(epoch_), static_cast<uint64_t>(lane.file),
                                    static_cast<uint64_t>(lane.chunk_begin), 2}));
  lane.left = std::max(info.end, lane.chunk_end) - lane.chunk_begin;
  return {};
}

void BlockReader::CutProse(Lane& lane) const {
  const std::string_view text = std::string_view(lane.text).substr(0, static_cast<size_t>(lane.chunk_end - lane.chunk_begin));
  const auto wanted = static_cast<size_t>(options_.block_bytes);
  size_t at = 0;
  while (at < text.size()) {
    size_t end = text.size();
    // A rest of less than half a block joins the last one.
    if (end - at > wanted + wanted / 2) end = BestCut(text, at + wanted / 2, at + wanted);
    const std::string_view block = text.substr(at, end - at);
    const bool ends = block.ends_with(kDocumentSeparator) || (lane.last && end == text.size() &&
                                                              lane.chunk_end == files_[lane.file].size);
    if (block.find_first_not_of(" \t\r\n") != std::string_view::npos) {
      lane.blocks.push_back({static_cast<int64_t>(at), static_cast<int64_t>(end - at), ends});
    }
    at = end;
  }
}

void BlockReader::CutLines(Lane& lane) const {
  const std::string_view text = std::string_view(lane.text).substr(0, static_cast<size_t>(lane.chunk_end - lane.chunk_begin));
  size_t at = 0;
  while (at < text.size()) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      lane.blocks.push_back({static_cast<int64_t>(at), static_cast<int64_t>(end - at), true});
    }
    at = end + 1;
  }
}

Result<Block> BlockReader::Next() {
  for (int attempt = 0;; ++attempt) {
    // Lanes whose chunk is used up go on in their file, or end.
    for (size_t i = 0; i < lanes_.size();) {
      Lane& lane = lanes_[i];
      while (lane.used == lane.blocks.size() && !lane.last) FATHOM_CHECK_OK(LoadChunk(lane, lane.chunk_end));
      if (lane.used == lane.blocks.size()) lanes_.erase(lanes_.begin() + static_cast<int64_t>(i));
      else ++i;
    }
    FATHOM_CHECK_OK(FillLanes());
    if (!lanes_.empty()) break;
    if (attempt > 0 || total_ == 0) {
      return Fail(ErrorCode::kInvalidArgument, "{}: nothing to read{}", files_.front().path,
                  options_.held_out_share > 0 ? " (mind held_out_share)" : "");
    }
    ++epoch_;
    BeginEpoch();
  }
  int64_t left = 0;
  for (const Lane& lane : lanes_) left += std::max<int64_t>(lane.left, 1);
  auto draw = static_cast<int64_t>(Below(
      HashNumbers({options_.seed, static_cast<uint64_t>(epoch_), draws_++, 3}), static_cast<uint64_t>(left)));
  size_t chosen = 0;
  while (draw >= std::max<int64_t>(lanes_[chosen].left, 1)) draw -= std::max<int64_t>(lanes_[chosen++].left, 1);
  Lane& lane = lanes_[chosen];
  const Span& span = lane.blocks[lane.used++];
  lane.left -= span.length;
  return Block{.text = std::string_view(lane.text).substr(static_cast<size_t>(span.begin), static_cast<size_t>(span.length)),
               .format = files_[lane.file].format,
               .file = lane.file,
               .offset = lane.chunk_begin + span.begin,
               .document_ends = span.document_ends};
}

std::string BlockReader::FirstFileNot(ShardFormat format) const {
  for (const FileInfo& info : files_) {
    if (info.format != format) return info.path;
  }
  return {};
}

double BlockReader::Epochs() const {
  if (total_ <= 0) return 0;
  int64_t left = 0;
  for (const Lane& lane : lanes_) left += lane.left;
  for (size_t i = next_file_; i < order_.size(); ++i) left += files_[order_[i]].end - files_[order_[i]].begin;
  return static_cast<double>(epoch_) + std::clamp(1 - static_cast<double>(left) / static_cast<double>(total_), 0.0, 1.0);
}

std::string BlockReader::Where(const Block& block) const {
  const std::string& path = files_[block.file].path;
  const int64_t line = LineAt(*env_, path, block.offset);
  return line > 0 ? fmt::format("{}: line {}", path, line) : fmt::format("{}: byte {}", path, block.offset);
}

nlohmann::json BlockReader::State() const {
  nlohmann::json lanes = nlohmann::json::array();
  for (const Lane& lane : lanes_) lanes.push_back({lane.file, lane.chunk_begin, lane.used});
  return {{"epoch", epoch_}, {"draws", draws_}, {"next_file", next_file_}, {"lanes", std::move(lanes)}};
}

Status BlockReader::Restore(const nlohmann::json& state) {
  if (!state.is_object()) return Fail(ErrorCode::kCorrupt, "data state: a source's position is missing");
  FATHOM_TRY(epoch_, StateCount(state, "epoch"));
  FATHOM_TRY(const int64_t draws, StateCount(state, "draws"));
  FATHOM_TRY(const int64_t next_file, StateCount(state, "next_file", static_cast<int64_t>(files_.size())));
  BeginEpoch();
  draws_ = static_cast<uint64_t>(draws);
  next_file_ = static_cast<size_t>(next_file);
  const auto lanes = state.find("lanes");
  if (lanes == state.end() || !lanes->is_array() || lanes->size() > static_cast<size_t>(options_.lanes)) {
    return Fail(ErrorCode::kCorrupt, "data state: \"lanes\" is missing or wrong");
  }
  for (const auto& entry : *lanes) {
    if (!entry.is_array() || entry.size() != 3) return Fail(ErrorCode::kCorrupt, "data state: a lane is wrong");
    const int64_t file = StateCount(entry[0]), begin = StateCount(entry[1]), used = StateCount(entry[2]);
    if (file < 0 || file >= static_cast<int64_t>(files_.size()) || begin < 0 || used < 0 ||
        begin > files_[static_cast<size_t>(file)].size) {
      return Fail(ErrorCode::kCorrupt, "data state: a lane is wrong");
    }
    Lane lane;
    FATHOM_CHECK_OK(OpenLane(lane, static_cast<int>(file)));
    FATHOM_CHECK_OK(LoadChunk(lane, begin));
    lane.used = static_cast<size_t>(used);
    if (lane.used > lane.blocks.size()) return Fail(ErrorCode::kCorrupt, "data state: a lane is wrong");
    for (size_t i = 0; i < lane.used; ++i) lane.left -= lane.blocks[i].length;
    lanes_.push_back(std::move(lane));
  }
  return {};
}

nlohmann::json BlockReader::Fingerprint() const {
  nlohmann::json files = nlohmann::json::array();
  for (const FileInfo& info : files_) files.push_back({BaseName(info.path), info.size});
  return {{"files", std::move(files)},
          {"held_out", options_.held_out},
          {"held_out_share", options_.held_out_share},
          {"block_bytes", options_.block_bytes},
          {"chunk_bytes", options_.chunk_bytes},
          {"lanes", options_.lanes}};
}

}  // namespace fathom
