// How many bits a byte of a text costs: by a model, by xz, by 5-gram models. One unit for all of them, whatever their
// symbols are.
//
// Not thread-safe. Texts are whole in memory; training texts of the n-gram models are read in pieces.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "eval/ngram.h"
#include "eval/perplexity.h"

namespace fathom {

struct ProseCost {
  double bits_per_byte = 0;
  double standard_error = 0;  // from the spread over tokens; 0 where it is not known
  int64_t bytes = 0;
  int64_t symbols = 0;  // tokens, or bytes
};

/// Told what is done and to do; false stops (kCancelled).
using ProseProgressFn = std::function<bool(int64_t done, int64_t total)>;

/// By the engine's model: windows of `window` tokens that slide by `stride`, so that every token of the text is scored
/// once, after at least window - stride tokens of context where there are so many. The first is scored after BOS, or
/// EOS where the vocabulary has no BOS, or as one of all tokens alike where it has neither.
/// Errors: kInvalidArgument for an empty text, kUnsupported without a tokenizer, as MeasurePerplexity.
Result<ProseCost> MeasureModel(Engine& engine, std::string_view text, int32_t window, int32_t stride,
                               const ProseProgressFn& progress = {});

/// Size of what `xz -9` makes of a text (one stream, CRC64). Errors: kResource.
Result<int64_t> XzSize(std::string_view text);

/// Trains an n-gram model on text files, packed ones (.xz) too. With a tokenizer over its tokens, else over bytes.
/// Reads until the files end or the memory is used up. `read`: bytes of text that it was trained on. Errors: of
/// reading.
Result<NgramModel> TrainNgram(int order, const Tokenizer* tokenizer, std::span<const std::string> files, int64_t memory,
                              int64_t& read, const ProseProgressFn& progress = {});

/// REQUIRES: finished; the same tokenizer as in training.
ProseCost MeasureNgram(const NgramModel& model, const Tokenizer* tokenizer, std::string_view text);

}  // namespace fathom
