// Prose (document_source.h): blocks of text or {"text": …} lines to pieces of at most a sequence.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "train/block_source.h"
#include "train/rng.h"

namespace fathom {
namespace {

class TextSource final : public BlockSource {
 public:
  TextSource(BlockReader reader, std::string name, const Tokenizer& tokenizer, int64_t sequence_length)
      : BlockSource(std::move(reader), std::move(name)), tokenizer_(tokenizer), sequence_length_(sequence_length) {}

 private:
  Status Cut(const Block& block, std::vector<Piece>& pieces) override {
    if (block.format == ShardFormat::kJsonLines) {
      const nlohmann::json line = nlohmann::json::parse(block.text, nullptr, false);
      if (line.is_discarded()) return Fail(ErrorCode::kCorrupt, "{}: not valid JSON", Where(block));
      const auto text = line.is_object() ? line.find("text") : line.end();
      if (!line.is_object() || text == line.end() || !text->is_string()) {
        return Fail(ErrorCode::kCorrupt, "{}: not an object with a string \"text\"", Where(block));
      }
      CutDocument(text->get_ref<const std::string&>(), true, pieces);
      return {};
    }
    std::string_view text = block.text;
    while (true) {
      const size_t end = text.find(kDocumentSeparator);
      if (end == std::string_view::npos) break;
      CutDocument(text.substr(0, end), true, pieces);
      text.remove_prefix(end + kDocumentSeparator.size());
    }
    CutDocument(text, block.document_ends, pieces);
    return {};
  }

  /// One document, or a stretch of one.
  void CutDocument(std::string_view text, bool ends, std::vector<Piece>& pieces) {
    while (!text.empty() && (text.front() == '\n' || text.front() == '\r')) text.remove_prefix(1);
    if (ends) {
      while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
    }
    if (text.empty()) return;
    ids_.clear();
    tokenizer_.Encode(text, TextTrust::kUser, ids_);
    if (ends && tokenizer_.eos_id() >= 0) ids_.push_back(tokenizer_.eos_id());
    const bool bos = tokenizer_.bos_id() >= 0;
    const auto total = static_cast<int64_t>(ids_.size());
    // A piece reads BOS and ids[begin, end), and is also asked for ids[end] where there is one.
    for (int64_t begin = 0; begin < total;) {
      const int64_t room = sequence_length_ - (bos ? 1 : 0);
      const int64_t end = total - begin <= room + 1 ? total : FindCut(begin, total, room);
      Piece piece;
      piece.cuttable = true;
      piece.tokens.reserve(static_cast<size_t>(end - begin) + 2);
      if (bos) piece.tokens.push_back(tokenizer_.bos_id());
      piece.tokens.insert(piece.tokens.end(), ids_.begin() + begin, ids_.begin() + std::min(end + 1, total));
      if (piece.tokens.size() >= 2) pieces.push_back(std::move(piece));
      begin = end;
    }
  }

  /// Pieces of about equal length, between paragraphs where one ends nearby, else between lines.
  int64_t FindCut(int64_t begin, int64_t total, int64_t room) const {
    const int64_t left = total - begin;
    const int64_t parts = (left + room - 1) / room;
    const int64_t wanted = (left + parts - 1) / parts;
    const int64_t low = std::max<int64_t>(1, wanted - room / 4), high = std::min(room, wanted + room / 8);
    int64_t line_end = -1;
    for (int64_t length = high; length >= low; --length) {
      const std::string_view last = tokenizer_.TokenBytes(ids_[static_cast<size_t>(begin + length - 1)]);
      if (!last.ends_with('\n')) continue;
      if (last.ends_with("\n\n")) return begin + length;
      if (line_end < 0) line_end = begin + length;
    }
    return line_end >= 0 ? line_end : begin + std::min(wanted, room);
  }

  const Tokenizer& tokenizer_;
  int64_t sequence_length_;
  std::vector<TokenId> ids_;
};

}  // namespace

Result<std::unique_ptr<DocumentSource>> OpenTextSource(Env& env, const DataSpec& spec, const Tokenizer& tokenizer,
                                                       const SourceOptions& options) {
  BlockReaderOptions reader_options{.seed = options.seed,
                                    .held_out_share = spec.held_out_share,
                                    .held_out = spec.held_out,
                                    .block_bytes = std::clamp<int64_t>(options.sequence_length * 16, 8 << 10, 256 << 10)};
  FATHOM_TRY(BlockReader reader, BlockReader::Open(env, spec.paths, reader_options));
  return std::make_unique<TextSource>(std::move(reader), NameOfSource(spec), tokenizer, options.sequence_length);
}

}  // namespace fathom
