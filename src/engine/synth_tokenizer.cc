#include "engine/synth_tokenizer.h"

#include <array>
#include <string_view>

namespace fathom {
namespace {

struct Marks {
  std::string_view begin, end, pad;
  std::array<std::string_view, 4> last;  // <think>-like ones are visible text, the others control
};

constexpr Marks kDeepseek = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>",
                             {"<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"}};
constexpr Marks kLlama3 = {"<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>",
                           {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>"}};
constexpr Marks kQwen = {"<|beginoftext|>", "<|endoftext|>", "<|fim_pad|>",
                         {"<|im_start|>", "<|im_end|>", "<think>", "</think>"}};

// In the manner of the published templates, which are only read for their marks.
constexpr std::string_view kDeepseekTemplate =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}"
    "{% endif %}";
constexpr std::string_view kLlama3Template =
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
    "message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";
constexpr std::string_view kChatMlTemplate =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' "
    "}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

void AppendUtf8(std::string& out, int code_point) {
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else {  // all below U+0800
    out += static_cast<char>(0xc0 | code_point >> 6);
    out += static_cast<char>(0x80 | (code_point & 0x3f));
  }
}

// GPT-2's printable stand-ins for bytes: themselves where printable in Latin-1, else U+0100 onwards in order.
std::array<std::string, 256> ByteSpellings() {
  std::array<std::string, 256> spelling;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool plain = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    AppendUtf8(spelling[byte], plain ? byte : next++);
  }
  return spelling;
}

// The letters of English in order of frequency, so that small vocabularies merge what occurs.
constexpr std::string_view kLetters = "etaoinshrdlucmwfgypbvkjxqz";

// Adds merges while there is room: pairs of letters, a space before a letter and before a pair, then pairs of pairs.
class MergeBuilder {
 public:
  MergeBuilder(SynthTokenizer& out, size_t limit) : out_(out), limit_(limit) {}

  void Build(const std::string& space) {
    std::vector<std::string> pairs;
    for (const char letter : kLetters) Add(space, std::string(1, letter));
    for (const char a : kLetters)
      for (const char b : kLetters) {
        Add(std::string(1, a), std::string(1, b));
        pairs.push_back({a, b});
      }
    for (const auto& pair : pairs) Add(space, pair);
    // Along diagonals, so that frequent pairs meet frequent pairs first.
    const size_t n = pairs.size();
    for (size_t sum = 0; sum < 2 * n - 1 && !full(); ++sum)
      for (size_t i = sum < n ? 0 : sum - n + 1; i <= sum && i < n && !full(); ++i) Add(pairs[i], pairs[sum - i]);
  }

 private:
  bool full() const { return out_.tokens.size() >= limit_; }
  void Add(const std::string& left, const std::string& right) {
    if (full()) return;
    out_.merges.push_back(left + " " + right);
    out_.tokens.push_back(left + right);
    out_.token_types.push_back(1);
  }

  SynthTokenizer& out_;
  const size_t limit_;
};

}  // namespace

Result<SynthTokenizer> MakeSynthTokenizer(const ModelConfig& config) {
  constexpr int32_t kFixed = 3 + 256 + 4;
  if (config.vocab_size < kFixed || config.vocab_size > 450000) {
    return Fail(ErrorCode::kInvalidArgument, "a vocabulary of {} tokens cannot be made; {} to 450000 can",
                config.vocab_size, kFixed);
  }
  // SmolLM2 and the Qwen family speak ChatML; Llama 3's vocabularies have its own marks.
  const bool chatml = config.family == ArchFamily::kQwen2 ||
                      (config.family == ArchFamily::kLlama && config.rope.scaling != RopeScaling::kLlama3);
  const bool deepseek = config.family == ArchFamily::kDeepseek2;
  const Marks& marks = deepseek ? kDeepseek : chatml ? kQwen : kLlama3;

  SynthTokenizer out;
  const bool v2 = deepseek && config.moe.scoring_func == GatingFunction::kSoftmax;
  out.pre = deepseek ? (v2 ? "deepseek-llm" : "deepseek-v3")
            : config.family == ArchFamily::kQwen2 ? "qwen2"
            : chatml                              ? "smollm"
                                                  : "llama-bpe";
  out.add_bos = !chatml;
  out.chat_template = deepseek ? kDeepseekTemplate : chatml ? kChatMlTemplate : kLlama3Template;
  const auto add = [&](std::string_view token, int32_t type) {
    out.tokens.emplace_back(token);
    out.token_types.push_back(type);
  };
  for (const auto mark : {marks.begin, marks.end, marks.pad}) add(mark, 3);
  const auto bytes = ByteSpellings();
  for (const auto& spelling : bytes) add(spelling, 1);
  const size_t merge_limit = static_cast<size_t>(config.vocab_size) - marks.last.size();
  MergeBuilder(out, merge_limit).Build(bytes[' ']);
  for (const auto mark : marks.last) add(mark, mark.ends_with("think>") ? 4 : 3);
  return out;
}

}  // namespace fathom
