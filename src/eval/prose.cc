#include "eval/prose.h"

#include <lzma.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "io/env.h"

namespace fathom {
namespace {

constexpr size_t kPiece = size_t{4} << 20;  // training text read at once

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
  if (result.perplexity > 0) error = result.standard_error / result.perplexity * static_cast<double>(result.scored_tokens);
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
  if (status != LZMA_STREAM_END) return Fail(ErrorCode::kResource, "xz failed (liblzma says {})", static_cast<int>(status));
  return size;
}

Result<NgramModel> TrainNgram(int order, const Tokenizer* tokenizer, std::span<const std::string> files, int64_t memory,
                              int64_t& read, const ProseProgressFn& progress) {
  const uint32_t vocab = tokenizer == nullptr ? 256 : static_cast<uint32_t>(tokenizer->vocab_size());
  FATHOM_TRY(NgramModel model, NgramModel::Create(order, vocab, memory));
  Env& env = Env::Default();
  int64_t total = 0, done = 0;
  read = 0;
  for (const std::string& path : files) {
    FATHOM_TRY(const int64_t size, env.FileSize(path));
    total += size;
  }
  for (const std::string& path : files) {
    FATHOM_TRY(const auto file, env.OpenForReading(path));
    std::string piece;
    for (int64_t at = 0; at < file->size() && !model.full();) {
      piece.resize(static_cast<size_t>(std::min<int64_t>(static_cast<int64_t>(kPiece), file->size() - at)));
      FATHOM_CHECK_OK(ReadExactly(*file, path, at, std::as_writable_bytes(std::span(piece))));
      // Cut at the end of a line where there is one, so that no word is cut in two.
      if (at + static_cast<int64_t>(piece.size()) < file->size()) {
        if (const size_t line = piece.rfind('\n'); line != std::string::npos) piece.resize(line + 1);
      }
      at += static_cast<int64_t>(piece.size());
      done += static_cast<int64_t>(piece.size());
      const auto symbols = ToSymbols(tokenizer, piece);
      const size_t taken = model.Train(symbols);
      read += symbols.empty() ? 0
                              : static_cast<int64_t>(static_cast<double>(piece.size()) * static_cast<double>(taken) /
                                                     static_cast<double>(symbols.size()));
      if (progress && !progress(done, total)) return Fail(ErrorCode::kCancelled, "interrupted");
    }
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
