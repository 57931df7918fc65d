// TrainedTokenizer as files: tokenizer.json and tokenizer_config.json.
#include <nlohmann/json.hpp>

#include "text/vocabulary.h"
#include "train/tokenizer_trainer.h"

namespace fathom {
namespace {

using Json = nlohmann::ordered_json;

// DeepSeek-V3's steps, as its tokenizer.json writes them.
constexpr const char* kNumbers = R"(\p{N}{1,3})";
constexpr const char* kKana = "[一-龥぀-ゟ゠-ヿ]+";
constexpr const char* kWords =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"
    "|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

// The deepseek-v3.1 conversation, written anew: all system messages first; answers follow </think>, a new one <think>
// when `thinking` is true; what an old answer had before its </think> is left out.
constexpr const char* kChatTemplate =
    R"({%- if add_generation_prompt is not defined -%}{%- set add_generation_prompt = false -%}{%- endif -%}
{%- if thinking is not defined -%}{%- set thinking = true -%}{%- endif -%}
{%- set state = namespace(system='', has_system=false, asked=false) -%}
{%- for message in messages -%}
  {%- if message['role'] == 'system' -%}
    {%- set state.system = state.system + ('\n\n' if state.has_system else '') + message['content'] -%}
    {%- set state.has_system = true -%}
  {%- endif -%}
{%- endfor -%}
{{- bos_token + state.system -}}
{%- for message in messages -%}
  {%- if message['role'] == 'user' -%}
    {{- '<｜User｜>' + message['content'] -}}
    {%- set state.asked = true -%}
  {%- elif message['role'] == 'assistant' -%}
    {%- if state.asked -%}{{- '<｜Assistant｜></think>' -}}{%- endif -%}
    {%- set state.asked = false -%}
    {{- message['content'].split('</think>', 1)[-1] + eos_token -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt and state.asked -%}
  {{- '<｜Assistant｜>' + ('<think>' if thinking else '</think>') -}}
{%- endif -%})";

Json Split(const char* pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json ByteLevel() {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
}

/// What puts the BOS before a text, whose id is 0.
Json BosFirst(const std::string& bos) {
  const auto special = [&](int type) -> Json { return {{"SpecialToken", {{"id", bos}, {"type_id", type}}}}; };
  const auto sequence = [&](const char* id, int type) -> Json { return {{"Sequence", {{"id", id}, {"type_id", type}}}}; };
  Json tokens = Json::object();
  tokens[bos] = {{"id", bos}, {"ids", Json::array({0})}, {"tokens", Json::array({bos})}};
  return {{"type", "TemplateProcessing"},
          {"single", Json::array({special(0), sequence("A", 0)})},
          {"pair", Json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)})},
          {"special_tokens", std::move(tokens)}};
}

}  // namespace

std::string TrainedTokenizer::TokenizerJson() const {
  Json added = Json::array(), vocab = Json::object(), merge_list = Json::array();
  const auto add = [&](const std::string& text, size_t id) {
    added.push_back({{"id", id}, {"content", text}, {"single_word", false}, {"lstrip", false}, {"rstrip", false},
                     {"normalized", false}, {"special", text != "<think>" && text != "</think>"}});
  };
  size_t id = 0;
  for (const std::string& text : first_special) {
    add(text, id);
    vocab[text] = id++;
  }
  for (const std::string& token : tokens) vocab[BytesToByteLevel(token)] = id++;
  for (const std::string& text : last_special) add(text, id++);
  for (const auto& [left, right] : merges) merge_list.push_back({BytesToByteLevel(left), BytesToByteLevel(right)});
  const Json json = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Sequence"}, {"pretokenizers", {Split(kNumbers), Split(kKana), Split(kWords), ByteLevel()}}}},
      {"post_processor", BosFirst(first_special[0])},
      {"decoder", ByteLevel()},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", false},
        {"vocab", std::move(vocab)},
        {"merges", std::move(merge_list)}}}};
  return json.dump(1) + "\n";
}

std::string TrainedTokenizer::TokenizerConfigJson(int64_t max_length) const {
  const Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                     {"bos_token", first_special[0]},
                     {"eos_token", first_special[1]},
                     {"pad_token", first_special[2]},
                     {"add_bos_token", true},
                     {"add_eos_token", false},
                     {"clean_up_tokenization_spaces", false},
                     {"model_max_length", max_length},
                     {"chat_template", kChatTemplate}};
  return json.dump(2) + "\n";
}

}  // namespace fathom
