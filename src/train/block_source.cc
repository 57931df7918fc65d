#include "train/block_source.h"

#include "train/state_json.h"

namespace fathom {

Result<Piece> BlockSource::Next() {
  for (int64_t barren_since = -1; next_ == pieces_.size();) {
    block_state_ = reader_.State();
    block_left_out_ = left_out_;
    pieces_.clear();
    next_ = 0;
    FATHOM_TRY(const Block block, reader_.Next());
    FATHOM_CHECK_OK(Cut(block, pieces_));
    if (!pieces_.empty()) break;
    if (barren_since < 0) barren_since = reader_.epoch();
    if (reader_.epoch() > barren_since + 1) {
      return Fail(ErrorCode::kInvalidArgument, "{}: not one document can be used ({} were left out as too long)", name_,
                  left_out_);
    }
  }
  return std::move(pieces_[next_++]);
}

nlohmann::json BlockSource::State() const {
  // The present block is read and cut again at a restore.
  if (next_ == pieces_.size()) return {{"reader", reader_.State()}, {"left_out", left_out_}};
  return {{"reader", block_state_}, {"used", next_}, {"left_out", block_left_out_}};
}

Status BlockSource::Restore(const nlohmann::json& state) {
  FATHOM_TRY(left_out_, StateCount(state, "left_out"));
  if (!state.contains("reader")) return Fail(ErrorCode::kCorrupt, "data state: a source's position is missing");
  FATHOM_CHECK_OK(reader_.Restore(state["reader"]));
  pieces_.clear();
  next_ = 0;
  if (!state.contains("used")) return {};
  FATHOM_TRY(const int64_t used, StateCount(state, "used"));
  block_state_ = reader_.State();
  block_left_out_ = left_out_;
  FATHOM_TRY(const Block block, reader_.Next());
  FATHOM_CHECK_OK(Cut(block, pieces_));
  if (used > static_cast<int64_t>(pieces_.size())) {
    return Fail(ErrorCode::kCorrupt, "data state: {} has {} pieces where {} were used; were the files changed?",
                Where(block), pieces_.size(), used);
  }
  next_ = static_cast<size_t>(used);
  return {};
}

nlohmann::json BlockSource::Fingerprint() const { return reader_.Fingerprint(); }

std::string NameOfSource(const DataSpec& spec) {
  std::string name = spec.kind == DataSpec::Kind::kText ? "text" : spec.kind == DataSpec::Kind::kChat ? "chat" : "tasks";
  if (!spec.paths.empty()) name += " " + BaseName(spec.paths.front());
  if (spec.paths.size() > 1) name += fmt::format(" and {} more", spec.paths.size() - 1);
  for (size_t i = 0; i < spec.families.size(); ++i) name += (i == 0 ? " " : ", ") + spec.families[i];
  if (spec.held_out) name += " (held out)";
  return name;
}

}  // namespace fathom
