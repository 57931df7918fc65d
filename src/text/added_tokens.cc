#include "text/added_tokens.h"

#include <algorithm>

namespace fathom {
namespace {

constexpr std::string_view kBar = "｜";  // U+FF5C, DeepSeek's

bool HasLetter(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<uint8_t>(c) >= 0x80;
  });
}

bool InBars(std::string_view text, std::string_view bar) {
  if (text.size() < 2 * bar.size() + 3 || text.front() != '<' || text.back() != '>') return false;
  text = text.substr(1, text.size() - 2);
  return text.starts_with(bar) && text.ends_with(bar) &&
         HasLetter(text.substr(bar.size(), text.size() - 2 * bar.size()));
}

}  // namespace

TokenClass ClassifyToken(std::string_view text, bool flagged_special) {
  static constexpr std::string_view kStructural[] = {
      "<think>",        "</think>",        "<tool_call>", "</tool_call>", "<tool_response>",
      "</tool_response>", "<tool_result>", "</tool_result>", "<tools>",     "</tools>",
  };
  if (std::find(std::begin(kStructural), std::end(kStructural), text) != std::end(kStructural)) {
    return TokenClass::kStructural;
  }
  if (flagged_special || InBars(text, "|") || InBars(text, kBar)) return TokenClass::kControl;
  return TokenClass::kPlain;
}

bool NamesEndOfGeneration(std::string_view text) {
  static constexpr std::string_view kNames[] = {
      "<|im_end|>", "<|endoftext|>",   "<|eot_id|>",   "<|eom_id|>",    "<|end_of_text|>", "<|end|>",
      "<|EOT|>",    "<|end_of_turn|>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "[EOS]",  "</s>",
  };
  return std::find(std::begin(kNames), std::end(kNames), text) != std::end(kNames);
}

void AddedTokens::Trie::Insert(std::string_view text, int32_t token) {
  if (nodes.empty()) nodes.emplace_back();
  starts[static_cast<uint8_t>(text[0])] = true;
  int32_t at = 0;
  for (char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    int32_t child = nodes[at].child;
    while (child >= 0 && nodes[child].byte != byte) child = nodes[child].sibling;
    if (child < 0) {
      child = static_cast<int32_t>(nodes.size());
      nodes.push_back({.byte = byte, .child = -1, .sibling = nodes[at].child, .token = -1});
      nodes[at].child = child;
    }
    at = child;
  }
  if (nodes[at].token < 0) nodes[at].token = token;
}

int32_t AddedTokens::Trie::Longest(std::string_view text, size_t pos, size_t& end) const {
  int32_t found = -1;
  for (int32_t at = 0; pos < text.size(); ++pos) {
    const auto byte = static_cast<uint8_t>(text[pos]);
    at = nodes[at].child;
    while (at >= 0 && nodes[at].byte != byte) at = nodes[at].sibling;
    if (at < 0) break;
    if (nodes[at].token >= 0) found = nodes[at].token, end = pos + 1;
  }
  return found;
}

void AddedTokens::Finish(FunctionRef<std::string(std::string_view)> normalize) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    const std::string text = token.normalized ? normalize(token.text) : token.text;
    if (text.empty()) continue;
    tries_[token.normalized][1].Insert(text, static_cast<int32_t>(i));
    if (token.token_class == TokenClass::kPlain) tries_[token.normalized][0].Insert(text, static_cast<int32_t>(i));
  }
  word_ = FastSet(CodePointSet::WhitespaceStep());  // the same engine's \w
  space_ = FastSet(CodePointSet::WhiteSpace());
}

void AddedTokens::MakeControl(TokenId id) {
  for (AddedToken& token : tokens_) {
    if (token.id == id) token.token_class = TokenClass::kControl;
  }
}

const AddedToken* AddedTokens::FindByText(std::string_view text) const {
  const auto it = std::find_if(tokens_.begin(), tokens_.end(), [&](const AddedToken& t) { return t.text == text; });
  return it == tokens_.end() ? nullptr : &*it;
}

void AddedTokens::Split(std::string_view text, bool normalized, TextTrust trust,
                        FunctionRef<void(std::string_view)> on_text, FunctionRef<void(TokenId)> on_token) const {
  const Trie& tree = trie(normalized, trust);
  if (tree.nodes.empty()) {
    if (!text.empty()) on_text(text);
    return;
  }
  const auto before = [&](size_t pos) {  // where the character that ends at pos begins
    size_t start = pos - 1;
    while (start > 0 && pos - start < 4 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
    return start;
  };
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    size_t end = 0;
    const int32_t found = tree.starts[static_cast<uint8_t>(text[pos])] ? tree.Longest(text, pos, end) : -1;
    if (found < 0) {
      ++pos;
      continue;
    }
    const AddedToken& token = tokens_[found];
    size_t start = pos;
    pos = end;
    if (token.single_word &&
        ((start > 0 && word_.Contains(DecodeUtf8(text, before(start)).code_point)) ||
         (end < text.size() && word_.Contains(DecodeUtf8(text, end).code_point)))) {
      continue;
    }
    if (start < done) continue;  // the white space that the last token took held this one
    if (token.lstrip) {
      while (start > done && space_.Contains(DecodeUtf8(text, before(start)).code_point)) start = before(start);
    }
    if (token.rstrip) {
      while (end < text.size() && space_.Contains(DecodeUtf8(text, end).code_point)) {
        end += DecodeUtf8(text, end).length;
      }
    }
    if (start > done) on_text(text.substr(done, start - done));
    on_token(token.id);
    done = end;
    pos = std::max(pos, end);
  }
  if (done < text.size()) on_text(text.substr(done));
}

}  // namespace fathom
