// fathom tokenize: text to token ids and back.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/input.h"
#include "cli/models.h"
#include "cli/option_checks.h"
#include "cli/terminal.h"
#include "engine/tokenizer_loader.h"
#include "text/unicode.h"

namespace fathom {
namespace {

using nlohmann::json;

struct TokenizeOptions {
  std::string model, text, jsonl, file;
  bool has_text = false;
  bool special = false, ids_only = false, count = false, bos = false;
  std::vector<TokenId> decode;
};

TextTrust TrustOf(const TokenizeOptions& options) { return options.special ? TextTrust::kTrusted : TextTrust::kUser; }

std::vector<TokenId> EncodeWith(const Tokenizer& tokenizer, const TokenizeOptions& options, std::string_view text) {
  std::vector<TokenId> ids;
  if (options.bos && tokenizer.bos_id() >= 0) ids.push_back(tokenizer.bos_id());
  tokenizer.Encode(text, TrustOf(options), ids);
  return ids;
}

/// One JSON object a line in, one JSON array a line out. A bad line ends the work: silently skipping it would shift
/// every later line.
Status TokenizeLines(const Tokenizer& tokenizer, const TokenizeOptions& options) {
  std::ifstream opened;
  if (options.jsonl != "-") {
    opened.open(options.jsonl, std::ios::binary);
    if (!opened) return Fail(ErrorCode::kNotFound, "{}: cannot be read", options.jsonl);
  }
  std::istream& in = options.jsonl == "-" ? std::cin : opened;
  std::string line, out;
  std::vector<TokenId> ids;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const json object = json::parse(line, nullptr, false);
    if (!IsValidUtf8(line)) {
      std::fwrite(out.data(), 1, out.size(), stdout);
      return Fail(ErrorCode::kCorrupt, "{}: line {} is not valid UTF-8, as JSON must be", options.jsonl, number);
    }
    if (object.is_discarded() || !object.is_object() || !object.contains("text") || !object["text"].is_string()) {
      std::fwrite(out.data(), 1, out.size(), stdout);
      return Fail(ErrorCode::kCorrupt, "{}: line {} is not a JSON object with a string \"text\"", options.jsonl,
                  number);
    }
    ids = EncodeWith(tokenizer, options, object["text"].get_ref<const std::string&>());
    out += '[';
    for (size_t i = 0; i < ids.size(); ++i) fmt::format_to(std::back_inserter(out), "{}{}", i == 0 ? "" : ", ", ids[i]);
    out += "]\n";
    if (out.size() > (1 << 16)) {
      std::fwrite(out.data(), 1, out.size(), stdout);
      out.clear();
    }
  }
  std::fwrite(out.data(), 1, out.size(), stdout);
  if (in.bad()) return Fail(ErrorCode::kIo, "{}: reading failed", options.jsonl);
  return {};
}

Status RunTokenize(const TokenizeOptions& options) {
  const int sources = options.has_text + !options.jsonl.empty() + !options.file.empty() + !options.decode.empty();
  if (sources != 1) {
    return Fail(ErrorCode::kInvalidArgument, "give exactly one of TEXT, --file, --jsonl and --decode\n"
                                             "Try 'fathom tokenize --help'.");
  }
  FATHOM_TRY(const std::string path, ResolveModel(options.model));
  FATHOM_TRY(const auto tokenizer, LoadTokenizer(path));
  if (!options.jsonl.empty()) return TokenizeLines(*tokenizer, options);
  if (!options.decode.empty()) {
    for (const TokenId id : options.decode) {
      if (id < 0 || id >= tokenizer->vocab_size()) {
        return Fail(ErrorCode::kInvalidArgument, "--decode: {} is not a token (the vocabulary has {})", id,
                    tokenizer->vocab_size());
      }
    }
    const std::string text = tokenizer->Decode(options.decode, options.special);
    const std::string shown = IsTerminal(stdout) ? SafeForTerminal(text) : text;
    std::fwrite(shown.data(), 1, shown.size(), stdout);
    if (IsTerminal(stdout)) std::fputc('\n', stdout);
    return {};
  }

  std::string text = options.text;
  if (!options.file.empty()) {
    FATHOM_TRY(text, ReadInput(options.file));
  }
  if (!IsValidUtf8(text)) {
    std::fputs("warning: the text is not valid UTF-8; bytes that are none stay as they are, each in tokens of its own\n", stderr);
  }
  const std::vector<TokenId> ids = EncodeWith(*tokenizer, options, text);
  if (options.count) {
    std::printf("%zu\n", ids.size());
  } else if (options.ids_only) {
    std::printf("%s\n", json(ids).dump().c_str());
  } else {
    for (const TokenId id : ids) {
      const std::string piece = OneLine(tokenizer->TokenBytes(id), 60);
      std::printf("%7d  %s%s\n", id, piece.c_str(), tokenizer->IsControl(id) ? "  (control)" : "");
    }
    std::fflush(stdout);
    std::fprintf(stderr, "%zu tokens, %zu bytes\n", ids.size(), text.size());
  }
  return {};
}

}  // namespace

void RegisterTokenize(CLI::App& app, Action& selected) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command =
      AddCommand(app, selected, "tokenize", "text to token ids and back",
                 "Examples:\n"
                 "  fathom tokenize model.gguf \"Hello, world\"\n"
                 "  fathom tokenize model.gguf --ids --special \"<|im_start|>user\"\n"
                 "  fathom tokenize tokenizer.json --jsonl texts.jsonl   lines {\"text\": …}; a JSON array\n"
                 "                                                       of ids for each\n"
                 "  fathom tokenize model.gguf --decode 1,2,3",
                 options, RunTokenize);
  command->add_option("MODEL", options->model, "GGUF file, Hugging Face directory, tokenizer.json, or a pulled model")
      ->required()
      ->check(ModelName());
  command->add_option_function<std::string>(
      "TEXT", [options](const std::string& text) { options->text = text, options->has_text = true; },
      "what to tokenize");
  command->add_option("-f,--file", options->file, "the text of a file ('-': standard input)");
  command->add_option("--jsonl", options->jsonl, "a file of lines {\"text\": …} ('-': standard input)");
  command->add_option("--decode", options->decode, "ids to turn into text, comma separated")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_flag("--special", options->special,
                    "recognise special tokens in the text (with --decode: show them); user text never does");
  command->add_flag("--bos", options->bos, "put the beginning-of-sequence token first");
  auto* ids = command->add_flag("--ids", options->ids_only, "print the ids as one JSON array");
  command->add_flag("--count", options->count, "print only how many there are")->excludes(ids);
}

}  // namespace fathom
