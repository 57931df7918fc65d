// ReasoningParser and StopMatcher of chat.h.
#include <algorithm>

#include "text/chat.h"

namespace fathom {
namespace {

constexpr std::string_view kThink = "<think>", kEndThink = "</think>";

/// The length of the longest end of `text` that begins `mark` without completing it.
size_t PartialAtEnd(std::string_view text, std::string_view mark) {
  for (size_t length = std::min(text.size(), mark.size() - 1); length > 0; --length) {
    if (text.ends_with(mark.substr(0, length))) return length;
  }
  return 0;
}

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

ReasoningParser::Piece ReasoningParser::Push(std::string_view text) {
  Piece piece;
  pending_ += text;
  if (!inside_ && !started_) {
    // Nothing but white space so far: a think block may still open here.
    const auto first = std::find_if_not(pending_.begin(), pending_.end(), IsSpace);
    const auto begin = static_cast<size_t>(first - pending_.begin());
    const std::string_view rest = std::string_view(pending_).substr(begin);
    if (rest.starts_with(kThink)) {
      pending_.erase(0, begin + kThink.size());
      inside_ = true;
    } else if (kThink.starts_with(rest)) {
      return piece;  // also when nothing is there yet
    } else {
      started_ = true;
    }
  }
  if (inside_) {
    const size_t end = pending_.find(kEndThink);
    if (end == std::string::npos) {
      const size_t sure = pending_.size() - PartialAtEnd(pending_, kEndThink);
      piece.reasoning = pending_.substr(0, sure);
      pending_.erase(0, sure);
      return piece;
    }
    piece.reasoning = pending_.substr(0, end);
    pending_.erase(0, end + kEndThink.size());
    inside_ = false;
    started_ = true;
  }
  piece.content = std::move(pending_);
  pending_.clear();
  return piece;
}

ReasoningParser::Piece ReasoningParser::Flush() {
  Piece piece;
  (inside_ ? piece.reasoning : piece.content) = std::move(pending_);
  pending_.clear();
  return piece;
}

std::string StopMatcher::Push(std::string_view text) {
  std::string out;
  if (stopped_) return out;
  pending_ += text;
  // The stop string that is complete first wins; of two that end together, the longer.
  size_t best_begin = std::string::npos, best_end = std::string::npos, held = 0;
  for (const std::string& stop : stops_) {
    if (stop.empty()) continue;
    if (const size_t begin = pending_.find(stop); begin != std::string::npos) {
      const size_t end = begin + stop.size();
      if (end < best_end || (end == best_end && begin < best_begin)) best_begin = begin, best_end = end;
    }
    held = std::max(held, PartialAtEnd(pending_, stop));
  }
  if (best_end != std::string::npos) {
    stopped_ = true;
    out = pending_.substr(0, best_begin);
    pending_.clear();
    return out;
  }
  out = pending_.substr(0, pending_.size() - held);
  pending_.erase(0, pending_.size() - held);
  return out;
}

std::string StopMatcher::Flush() {
  std::string out = std::move(pending_);
  pending_.clear();
  return out;
}

}  // namespace fathom
