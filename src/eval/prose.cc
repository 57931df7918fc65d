#include "eval/prose.h"

#include <lzma.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>

#include "io/env.h"

namespace fathom {
namespace {

constexpr size_t kPiece = size_t{4} << 20;           // training text read at once
constexpr uint64_t kXzMemory = uint64_t{256} << 20;  // xz -9 needs 65 MiB to unpack

// A text file in pieces that end at the end of a line where they can, so that no word is cut in two. Unpacks .xz.
class PieceReader {
 public:
  static Result<std::unique_ptr<PieceReader>> Open(const std::string& path) {
    std::unique_ptr<PieceReader> reader(new PieceReader(path));
    FATHOM_TRY(reader->file_, Env::Default().OpenForReading(path));
    if (path.ends_with(".xz")) {
      reader->packed_ = true;
      if (lzma_stream_decoder(&reader->stream_, kXzMemory, LZMA_CONCATENATED) != LZMA_OK) {
        return Fail(ErrorCode::kResource, "{}: no memory to unpack it", path);
      }
    }
    return reader;
  }
  ~PieceReader() { lzma_end(&stream_); }
  PieceReader(const PieceReader&) = delete;
  PieceReader& operator=(const PieceReader&) = delete;

  /// Of the file as it is on disk.
  int64_t size() const { return file_->size(); }
  int64_t position() const { return at_; }

  /// Empty at the end.
  Status Next(std::string& piece) {
    piece = std::move(rest_);
    rest_.clear();
    while (piece.size() < kPiece && !ended_) FATHOM_CHECK_OK(packed_ ? Unpack(piece) : Read(piece));
    if (ended_) return {};
    if (const size_t line = piece.rfind('\n'); line != std::string::npos) {
      rest_ = piece.substr(line + 1);
      piece.resize(line + 1);
    }
    return {};
  }

 private:
  explicit PieceReader(std::string path) : path_(std::move(path)) {}

  Status Read(std::string& out) {
    const size_t old = out.size();
    out.resize(kPiece);
    auto count = file_->Read(at_, std::as_writable_bytes(std::span(out).subspan(old)));
    if (!count) return std::unexpected(count.error());
    out.resize(old + *count);
    at_ += static_cast<int64_t>(*count);
    ended_ = *count == 0;
    return {};
  }
  Status Unpack(std::string& out) {
    if (stream_.avail_in == 0 && !input_ended_) {
      input_.clear();
      input_.resize(1 << 16);
      auto count = file_->Read(at_, std::as_writable_bytes(std::span(input_)));
      if (!count) return std::unexpected(count.error());
      at_ += static_cast<int64_t>(*count);
      input_ended_ = *count == 0;
      stream_.next_in = reinterpret_cast<const uint8_t*>(input_.data());
      stream_.avail_in = *count;
    }
    const size_t old = out.size();
    out.resize(kPiece);
    stream_.next_out = reinterpret_cast<uint8_t*>(out.data() + old);
    stream_.avail_out = out.size() - old;
    const lzma_ret status = lzma_code(&stream_, input_ended_ ? LZMA_FINISH : LZMA_RUN);
    out.resize(out.size() - stream_.avail_out);
    ended_ = status == LZMA_STREAM_END;
    if (status == LZMA_OK || ended_) return {};
    return Fail(ErrorCode::kCorrupt, "{}: no valid xz file, or cut short (liblzma says {})", path_,
                static_cast<int>(status));
  }

  std::string path_;
  std::unique_ptr<RandomAccessFile> file_;
  bool packed_ = false, ended_ = false, input_ended_ = false;
  int64_t at_ = 0;
  std::string rest_, input_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
};

std::vector<uint32_t> ToSymbols(const Tokenizer* tokenizer, std::string_view text) {
  std::vector<uint32_t> symbols;
  if (tokenizer == nullptr) {
    symbols.reserve(text.size());
    for (const char c : text) symbols.push_back(static_cast<unsigned char>(c));
    return symbols;
  }
  const std::vector<TokenId> ids = tokenizer->Encode(text, TextTrust::kUser);
  symbols.assign(ids.begin(), ids.end());
  return symbols;
}

}  // namespace

Result<ProseCost> MeasureModel(Engine& engine, std::string_view text, int32_t window, int32_t stride,
                               const ProseProgressFn& progress) {
  if (text.empty()) return Fail(ErrorCode::kInvalidArgument, "the text is empty");
  const Tokenizer* tokenizer = engine.tokenizer();
  if (tokenizer == nullptr) {
    return Fail(ErrorCode::kUnsupported, "this model's tokenizer cannot be used: {}", engine.tokenizer_error());
  }
  // Something must stand before the first token for it to be scored.
  const TokenId first = tokenizer->bos_id() >= 0 ? tokenizer->bos_id() : tokenizer->eos_id();
  std::vector<TokenId> tokens;
  if (first >= 0) tokens.push_back(first);
  tokenizer->Encode(text, TextTrust::kUser, tokens);
  const auto scored = static_cast<int64_t>(tokens.size()) - (first >= 0 ? 1 : 0);

  double nats = 0, error = 0;
  const int32_t vocab = engine.config().vocab_size;
  if (first < 0) nats += std::log(static_cast<double>(vocab));
  PerplexityParams params;
  params.window = static_cast<int32_t>(std::min<int64_t>(window, static_cast<int64_t>(tokens.size())));
  params.stride = std::min(stride, params.window - 1);
  if (params.window < 4) return Fail(ErrorCode::kInvalidArgument, "the text has {} tokens, too few", scored);
  FATHOM_TRY(const auto session, engine.NewSession());
  FATHOM_TRY(const PerplexityResult result,
             MeasurePerplexity(*session, tokens, vocab, params, [&](int64_t done, int64_t total, const auto&) {
               return !progress || progress(done, total);
             }));
  nats += result.mean_nll * static_cast<double>(result.scored_tokens);
  if (result.perplexity > 0)
    error = result.standard_error / result.perplexity * static_cast<double>(result.scored_tokens);
  const double unit = std::numbers::ln2 * static_cast<double>(text.size());
  return ProseCost{.bits_per_byte = nats / unit,
                   .standard_error = error / unit,
                   .bytes = static_cast<int64_t>(text.size()),
                   .symbols = scored};
}

Result<int64_t> XzSize(std::string_view text) {
  lzma_stream stream = LZMA_STREAM_INIT;
  // As the command does it: a stream, so that block headers carry no sizes.
  if (lzma_easy_encoder(&stream, 9, LZMA_CHECK_CRC64) != LZMA_OK) {
    return Fail(ErrorCode::kResource, "xz -9 needs 674 MiB of memory, which there are not");
  }
  std::vector<uint8_t> out(size_t{1} << 16);
  stream.next_in = reinterpret_cast<const uint8_t*>(text.data());
  stream.avail_in = text.size();
  lzma_ret status = LZMA_OK;
  while (status == LZMA_OK) {
    stream.next_out = out.data();
    stream.avail_out = out.size();
    status = lzma_code(&stream, LZMA_FINISH);
  }
  const auto size = static_cast<int64_t>(stream.total_out);
  lzma_end(&stream);
  if (status != LZMA_STREAM_END)
    return Fail(ErrorCode::kResource, "xz failed (liblzma says {})", static_cast<int>(status));
  return size;
}

Result<NgramModel> TrainNgram(int order, const Tokenizer* tokenizer, std::span<const std::string> files, int64_t memory,
                              int64_t& read, const ProseProgressFn& progress) {
  const uint32_t vocab = tokenizer == nullptr ? 256 : static_cast<uint32_t>(tokenizer->vocab_size());
  FATHOM_TRY(NgramModel model, NgramModel::Create(order, vocab, memory));
  int64_t total = 0, before = 0;
  read = 0;
  for (const std::string& path : files) {
    FATHOM_TRY(const int64_t size, Env::Default().FileSize(path));
    total += size;
  }
  std::string piece;
  for (const std::string& path : files) {
    FATHOM_TRY(auto reader, PieceReader::Open(path));
    while (!model.full()) {
      FATHOM_CHECK_OK(reader->Next(piece));
      if (piece.empty()) break;
      const auto symbols = ToSymbols(tokenizer, piece);
      const size_t taken = model.Train(symbols);
      const double share = symbols.empty() ? 0 : static_cast<double>(taken) / static_cast<double>(symbols.size());
      read += static_cast<int64_t>(share * static_cast<double>(piece.size()));
      if (progress && !progress(before + reader->position(), total)) return Fail(ErrorCode::kCancelled, "interrupted");
    }
    before += reader->size();
  }
  model.Finish();
  return model;
}

ProseCost MeasureNgram(const NgramModel& model, const Tokenizer* tokenizer, std::string_view text) {
  const auto symbols = ToSymbols(tokenizer, text);
  ProseCost cost{.bytes = static_cast<int64_t>(text.size()), .symbols = static_cast<int64_t>(symbols.size())};
  if (!text.empty()) cost.bits_per_byte = model.Bits(symbols) / static_cast<double>(text.size());
  return cost;
}

}  // namespace fathom
