// Helpers of the data tests: a small vocabulary with the chat marks, temporary files, .xz files.
#pragma once

#include <gtest/gtest.h>
#include <lzma.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace fathom {

/// Every byte a token, then pairs of letters, then the marks of the deepseek-v3.1 format.
inline std::unique_ptr<Tokenizer> SmallTokenizer() {
  using Json = nlohmann::json;
  Json vocab = Json::object(), merges = Json::array(), added = Json::array();
  int id = 0;
  const auto add = [&](const std::string& text) {
    added.push_back({{"id", id}, {"content", text}, {"single_word", false}, {"lstrip", false}, {"rstrip", false},
                     {"normalized", false}, {"special", text != "<think>" && text != "</think>"}});
    vocab[text] = id++;
  };
  add("<｜begin▁of▁sentence｜>");
  add("<｜end▁of▁sentence｜>");
  add("<｜▁pad▁｜>");
  for (int byte = 0; byte < 256; ++byte) vocab[BytesToByteLevel(std::string(1, static_cast<char>(byte)))] = id++;
  for (const std::string pair : {"\n\n", "th", "in", "er", "an"}) {
    vocab[BytesToByteLevel(pair)] = id++;
    merges.push_back(BytesToByteLevel(pair.substr(0, 1)) + " " + BytesToByteLevel(pair.substr(1)));
  }
  for (const char* mark : {"<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"}) add(mark);
  const Json json = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
  const std::string text = json.dump();
  const std::string config = Json{{"bos_token", "<｜begin▁of▁sentence｜>"},
                                  {"eos_token", "<｜end▁of▁sentence｜>"}}.dump();
  auto tokenizer = Tokenizer::Create({.tokenizer_json = text, .tokenizer_config_json = config});
  EXPECT_TRUE(tokenizer) << (tokenizer ? "" : tokenizer.error().message);
  return tokenizer ? std::move(*tokenizer) : nullptr;
}

class TempFiles {
 public:
  TempFiles() {
    std::string name = (std::filesystem::temp_directory_path() / "fathom_train_XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  ~TempFiles() { std::filesystem::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string Write(const std::string& name, const std::string& content) const {
    std::ofstream(Path(name), std::ios::binary) << content;
    return Path(name);
  }
  std::string WriteXz(const std::string& name, const std::string& content) const { return Write(name, Xz(content)); }
  static std::string Xz(const std::string& content) {
    std::string out(lzma_stream_buffer_bound(content.size()), '\0');
    size_t size = 0;
    EXPECT_EQ(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const uint8_t*>(content.data()),
                                      content.size(), reinterpret_cast<uint8_t*>(out.data()), &size, out.size()),
              LZMA_OK);
    out.resize(size);
    return out;
  }

 private:
  std::filesystem::path folder_;
};

/// Prose of about `bytes` bytes: numbered paragraphs, so that every one is unlike the others.
inline std::string ProseForTest(const std::string& title, size_t bytes) {
  std::string text;
  for (int64_t paragraph = 0; text.size() < bytes; ++paragraph) {
    text += title + " paragraph " + std::to_string(paragraph) + ":";
    for (int64_t i = 0; i < 5 + paragraph % 40; ++i) {
      text += " word" + std::to_string((i * 7919 + paragraph * 104729) % 1000);
    }
    text += ".\n\n";
  }
  return text;
}

inline std::string ChatsForTest(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    nlohmann::json messages = nlohmann::json::array();
    if (i % 3 == 0) messages.push_back({{"role", "system"}, {"content", "Be brief."}});
    for (int turn = 0; turn <= i % 3; ++turn) {
      messages.push_back({{"role", "user"}, {"content", "Question " + std::to_string(i) + "." + std::to_string(turn)}});
      nlohmann::json answer = {{"role", "assistant"}, {"content", std::string("Answer ") + std::string(i % 50, 'x')}};
      if (i % 2 == 0) answer["reasoning_content"] = "Because " + std::to_string(i);
      messages.push_back(std::move(answer));
    }
    out += nlohmann::json{{"messages", messages}}.dump() + "\n";
  }
  return out;
}

}  // namespace fathom
