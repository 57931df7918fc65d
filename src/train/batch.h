// What one training micro-batch is made of: documents laid end to end, with the targets that count.
//
// Plain data. A piece never attends to another one (document mask); positions restart in each.
#pragma once

#include <cstdint>
#include <vector>

namespace fathom {

constexpr int32_t kNoTarget = -1;

struct Batch {
  std::vector<int32_t> tokens;     // [N]; N is the micro-batch's size, padding included
  // [N]: the token after this one in its document, or kNoTarget where no loss counts. The last one of a document may be
  // a token that is not in `tokens` any more: the end mark, or the text's next token where prose was cut.
  std::vector<int32_t> targets;
  std::vector<int32_t> positions;  // [N]: position inside its document, from 0
  // Document d is tokens[doc_begin[d], doc_begin[d + 1]); the last entry is N. Padding at the end, if any, is a document
  // of its own whose targets are all kNoTarget.
  std::vector<int64_t> doc_begin;
  int64_t padding = 0;             // tokens of padding, at the end
  int64_t bytes = 0;               // of text behind the counted targets, where known (for bits per byte); else 0
};

}  // namespace fathom
