#include "train/packer.h"

#include <algorithm>

#include "train/state_json.h"

namespace fathom {
namespace {

constexpr size_t kNone = SIZE_MAX;

nlohmann::json PieceToJson(const Piece& piece) {
  // The mask as lengths of runs, beginning with uncounted.
  nlohmann::json runs = nlohmann::json::array();
  for (size_t i = 0, value = 0; i < piece.counted.size(); value ^= 1) {
    size_t length = 0;
    while (i < piece.counted.size() && piece.counted[i] == value) ++i, ++length;
    runs.push_back(length);
  }
  return {{"source", piece.source}, {"cuttable", piece.cuttable}, {"counted", std::move(runs)}, {"tokens", piece.tokens}};
}

Result<Piece> PieceFromJson(const nlohmann::json& json, size_t sources, size_t vocabulary, int64_t longest) {
  const auto wrong = [] { return Fail(ErrorCode::kCorrupt, "data state: a pending piece is wrong"); };
  Piece piece;
  FATHOM_TRY(const int64_t source, StateCount(json, "source", static_cast<int64_t>(sources) - 1));
  piece.source = static_cast<int>(source);
  if (!json.contains("cuttable") || !json["cuttable"].is_boolean() || !json.contains("tokens") ||
      !json["tokens"].is_array() || !json.contains("counted") || !json["counted"].is_array()) {
    return wrong();
  }
  piece.cuttable = json["cuttable"].get<bool>();
  for (const auto& token : json["tokens"]) {
    const int64_t id = StateCount(token);
    if (id < 0 || id >= static_cast<int64_t>(vocabulary)) return wrong();
    piece.tokens.push_back(static_cast<TokenId>(id));
  }
  uint8_t value = 0;
  for (const auto& run : json["counted"]) {
    const int64_t length = StateCount(run);
    if (length < 0 || length > static_cast<int64_t>(piece.tokens.size() - piece.counted.size())) return wrong();
    piece.counted.resize(piece.counted.size() + static_cast<size_t>(length), value);
    value ^= 1;
  }
  if (piece.inputs() < 1 || piece.inputs() > longest) return wrong();
  if (!piece.counted.empty() && piece.counted.size() != piece.tokens.size()) return wrong();
  return piece;
}

}  // namespace

Packer::Packer(std::vector<Source> sources, int64_t batch_tokens, std::vector<uint16_t> token_bytes, TokenId bos)
    : sources_(std::move(sources)),
      counters_(sources_.size()),
      batch_tokens_(batch_tokens),
      token_bytes_(std::move(token_bytes)),
      bos_(bos) {}

Status Packer::Fill() {
  while (pending_.size() < kLookahead && pending_tokens_ < 2 * batch_tokens_) {
    size_t behind = 0;
    for (size_t i = 1; i < sources_.size(); ++i) {
      if (static_cast<double>(counters_[i].drawn) / sources_[i].weight <
          static_cast<double>(counters_[behind].drawn) / sources_[behind].weight) {
        behind = i;
      }
    }
    FATHOM_TRY(Piece piece, sources_[behind].documents->Next());
    piece.source = static_cast<int>(behind);
    counters_[behind].drawn += piece.inputs();
    pending_tokens_ += piece.inputs();
    pending_.push_back(std::move(piece));
  }
  return {};
}

size_t Packer::Choose(int64_t room) const {
  if (pending_.front().inputs() <= room) return 0;
  size_t best = kNone, cuttable = kNone;
  for (size_t i = 0; i < pending_.size(); ++i) {
    const int64_t inputs = pending_[i].inputs();
    if (inputs <= room && (best == kNone || inputs > pending_[best].inputs())) best = i;
    if (cuttable == kNone && pending_[i].cuttable && room >= kSmallestCut && inputs - room >= kSmallestCut) cuttable = i;
  }
  // Whole pieces fill most of the gap; prose the rest.
  return best != kNone ? best : cuttable;
}

Piece Packer::CutFront(Piece& piece, int64_t inputs) const {
  Piece front{.cuttable = true, .source = piece.source};
  front.tokens.assign(piece.tokens.begin(), piece.tokens.begin() + inputs + 1);
  if (!piece.counted.empty()) front.counted.assign(piece.counted.begin(), piece.counted.begin() + inputs + 1);
  // The rest begins with what was asked for last, after a BOS.
  std::vector<TokenId> rest;
  rest.reserve(piece.tokens.size());
  if (bos_ >= 0) rest.push_back(bos_);
  rest.insert(rest.end(), piece.tokens.begin() + inputs, piece.tokens.end());
  piece.tokens = std::move(rest);
  if (!piece.counted.empty()) {
    std::vector<uint8_t> counted(bos_ >= 0 ? 1 : 0, 0);
    counted.insert(counted.end(), piece.counted.begin() + inputs, piece.counted.end());
    piece.counted = std::move(counted);
  }
  return front;
}

void Packer::Append(const Piece& piece, Batch& batch) {
  const int64_t inputs = piece.inputs();
  for (int64_t i = 0; i < inputs; ++i) {
    const TokenId target = piece.tokens[static_cast<size_t>(i) + 1];
    const bool counts = piece.counted.empty() || piece.counted[static_cast<size_t>(i) + 1] != 0;
    batch.tokens.push_back(piece.tokens[static_cast<size_t>(i)]);
    batch.targets.push_back(counts ? target : kNoTarget);
    batch.positions.push_back(static_cast<int32_t>(i));
    if (counts) batch.bytes += token_bytes_[static_cast<size_t>(target)];
  }
  batch.doc_begin.push_back(static_cast<int64_t>(batch.tokens.size()));
  counters_[static_cast<size_t>(piece.source)].tokens += inputs;
  counters_[static_cast<size_t>(piece.source)].documents += 1;
}

Result<Batch> Packer::Next() {
  Batch batch;
  const auto size = static_cast<size_t>(batch_tokens_);
  batch.tokens.reserve(size), batch.targets.reserve(size), batch.positions.reserve(size);
  batch.doc_begin.push_back(0);
  while (static_cast<int64_t>(batch.tokens.size()) < batch_tokens_) {
    FATHOM_CHECK_OK(Fill());
    const int64_t room = batch_tokens_ - static_cast<int64_t>(batch.tokens.size());
    const size_t chosen = Choose(room);
    if (chosen == kNone) break;
    Piece& piece = pending_[chosen];
    if (piece.inputs() <= room) {
      pending_tokens_ -= piece.inputs();
      Append(piece, batch);
      pending_.erase(pending_.begin() + static_cast<int64_t>(chosen));
    } else {
      pending_tokens_ -= piece.inputs();
      Append(CutFront(piece, room), batch);
      pending_tokens_ += piece.inputs();
    }
  }
  batch.padding = batch_tokens_ - static_cast<int64_t>(batch.tokens.size());
  if (batch.padding > 0) {
    for (int64_t i = 0; i < batch.padding; ++i) batch.positions.push_back(static_cast<int32_t>(i));
    batch.tokens.resize(size, bos_ >= 0 ? bos_ : 0);
    batch.targets.resize(size, kNoTarget);
    batch.doc_begin.push_back(batch_tokens_);
  }
  return batch;
}

nlohmann::json Packer::State() const {
  nlohmann::json sources = nlohmann::json::array(), pending = nlohmann::json::array();
  for (size_t i = 0; i < sources_.size(); ++i) {
    sources.push_back({{"at", sources_[i].documents->State()},
                       {"drawn", counters_[i].drawn},
                       {"tokens", counters_[i].tokens},
                       {"documents", counters_[i].documents}});
  }
  for (const Piece& piece : pending_) pending.push_back(PieceToJson(piece));
  return {{"sources", std::move(sources)}, {"pending", std::move(pending)}};
}

Status Packer::Restore(const nlohmann::json& state) {
  if (!state.is_object() || !state.contains("sources") || !state["sources"].is_array() ||
      state["sources"].size() != sources_.size() || !state.contains("pending") || !state["pending"].is_array()) {
    return Fail(ErrorCode::kCorrupt, "data state: \"sources\" or \"pending\" is missing or wrong");
  }
  for (size_t i = 0; i < sources_.size(); ++i) {
    const nlohmann::json& source = state["sources"][i];
    FATHOM_TRY(counters_[i].drawn, StateCount(source, "drawn"));
    FATHOM_TRY(counters_[i].tokens, StateCount(source, "tokens"));
    FATHOM_TRY(counters_[i].documents, StateCount(source, "documents"));
    if (!source.contains("at")) return Fail(ErrorCode::kCorrupt, "data state: a source's position is missing");
    FATHOM_CHECK_OK(sources_[i].documents->Restore(source["at"]));
  }
  pending_.clear();
  pending_tokens_ = 0;
  for (const auto& entry : state["pending"]) {
    FATHOM_TRY(Piece piece, PieceFromJson(entry, sources_.size(), token_bytes_.size(), batch_tokens_));
    pending_tokens_ += piece.inputs();
    pending_.push_back(std::move(piece));
  }
  return {};
}

nlohmann::json Packer::Fingerprint() const {
  nlohmann::json sources = nlohmann::json::array();
  for (const Source& source : sources_) {
    sources.push_back({{"weight", source.weight}, {"source", source.documents->Fingerprint()}});
  }
  return sources;
}

std::vector<DataStream::SourceStats> Packer::Stats() const {
  std::vector<DataStream::SourceStats> out;
  for (size_t i = 0; i < sources_.size(); ++i) {
    out.push_back({.name = sources_[i].documents->name(),
                   .tokens = counters_[i].tokens,
                   .documents = counters_[i].documents,
                   .left_out = sources_[i].documents->left_out(),
                   .epochs = sources_[i].documents->epochs()});
  }
  return out;
}

}  // namespace fathom
