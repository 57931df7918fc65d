#include "train/data_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/start_thread.h"
#include "train/stream_for_test.h"

namespace fathom {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using nlohmann::json;

/// The promises of batch.h.
void CheckBatch(const Batch& batch, const DataStreamOptions& options, const Tokenizer& tokenizer) {
  const auto size = static_cast<size_t>(options.batch_tokens);
  ASSERT_EQ(batch.tokens.size(), size);
  ASSERT_EQ(batch.targets.size(), size);
  ASSERT_EQ(batch.positions.size(), size);
  ASSERT_GE(batch.doc_begin.size(), 2u);
  EXPECT_EQ(batch.doc_begin.front(), 0);
  EXPECT_EQ(batch.doc_begin.back(), options.batch_tokens);
  int64_t bytes = 0;
  for (size_t d = 0; d + 1 < batch.doc_begin.size(); ++d) {
    const int64_t begin = batch.doc_begin[d], end = batch.doc_begin[d + 1];
    ASSERT_LT(begin, end);
    const bool padding = batch.padding > 0 && end == options.batch_tokens;
    EXPECT_LE(end - begin, padding ? batch.padding : options.sequence_length);
    EXPECT_EQ(batch.tokens[static_cast<size_t>(begin)], tokenizer.bos_id());
    for (int64_t i = begin; i < end; ++i) {
      const auto at = static_cast<size_t>(i);
      EXPECT_EQ(batch.positions[at], i - begin);
      if (padding) {
        EXPECT_EQ(batch.targets[at], kNoTarget);
      } else if (i + 1 < end && batch.targets[at] != kNoTarget) {
        EXPECT_EQ(batch.targets[at], batch.tokens[at + 1]);
      }
      if (batch.targets[at] != kNoTarget && !tokenizer.IsControl(batch.targets[at])) {
        bytes += static_cast<int64_t>(tokenizer.TokenBytes(batch.targets[at]).size());
      }
    }
  }
  EXPECT_EQ(batch.bytes, bytes);
}

bool Same(const Batch& a, const Batch& b) {
  return a.tokens == b.tokens && a.targets == b.targets && a.positions == b.positions && a.doc_begin == b.doc_begin &&
         a.padding == b.padding && a.bytes == b.bytes;
}

class DataStreamTest : public ::testing::Test {
 protected:
  std::unique_ptr<DataStream> Open(const std::vector<DataSpec>& sources, const DataStreamOptions& options) {
    auto stream = DataStream::Open(sources, *tokenizer_, options);
    EXPECT_TRUE(stream) << (stream ? "" : stream.error().message);
    return stream ? std::move(*stream) : nullptr;
  }
  std::string OpenError(const std::vector<DataSpec>& sources) {
    const auto stream = DataStream::Open(sources, *tokenizer_, {.batch_tokens = 512, .sequence_length = 128});
    return stream ? "no error" : stream.error().message;
  }
  /// The error that reading on ends in.
  std::string ReadError(const std::vector<DataSpec>& sources, int most = 2000) {
    const auto stream = Open(sources, {.batch_tokens = 512, .sequence_length = 128});
    if (stream == nullptr) return "not opened";
    for (int i = 0; i < most; ++i) {
      if (const auto batch = stream->Next(); !batch) {
        EXPECT_FALSE(stream->Next());  // and stays so
        return batch.error().message;
      }
    }
    return "no error";
  }

  std::vector<DataSpec> Mixed() {
    files_.Write("a.txt", ProseForTest("Alpha", 60000));
    files_.WriteXz("b.txt.xz", ProseForTest("Beta", 90000));
    std::string lines;
    for (int i = 0; i < 200; ++i) lines += json{{"text", ProseForTest("Line " + std::to_string(i), 20 + 13 * i)}}.dump() + "\n";
    files_.WriteXz("c.jsonl.xz", lines);
    files_.Write("chats.jsonl", ChatsForTest(300));
    return {{.kind = DataSpec::Kind::kText,
             .paths = {files_.Path("*.txt"), files_.Path("*.txt.xz"), files_.Path("c.jsonl.xz")},
             .weight = 2},
            {.kind = DataSpec::Kind::kChat, .paths = {files_.Path("chats.jsonl")}},
            {.kind = DataSpec::Kind::kTasks, .weight = 0.5, .seed = 5, .no_thinking_share = 0.3}};
  }

  TempFiles files_;
  std::unique_ptr<Tokenizer> tokenizer_ = SmallTokenizer();
};

TEST_F(DataStreamTest, BatchesKeepTheirPromises) {
  const DataStreamOptions options{.batch_tokens = 2048, .sequence_length = 256};
  const auto stream = Open(Mixed(), options);
  int64_t padding = 0;
  for (int i = 0; i < 500; ++i) {
    const auto batch = stream->Next();
    ASSERT_TRUE(batch) << batch.error().message;
    CheckBatch(*batch, options, *tokenizer_);
    padding += batch->padding;
  }
  EXPECT_LT(static_cast<double>(padding), 0.005 * 500 * 2048);  // prose fills the gaps
  const auto stats = stream->Stats();
  ASSERT_EQ(stats.size(), 3u);
  const double total = static_cast<double>(stats[0].tokens + stats[1].tokens + stats[2].tokens);
  EXPECT_NEAR(static_cast<double>(stats[0].tokens) / total, 2 / 3.5, 0.02);
  EXPECT_NEAR(static_cast<double>(stats[1].tokens) / total, 1 / 3.5, 0.02);
  EXPECT_NEAR(static_cast<double>(stats[2].tokens) / total, 0.5 / 3.5, 0.02);
  EXPECT_EQ(stats[0].tokens + stats[1].tokens + stats[2].tokens + padding, 500 * 2048);
  EXPECT_GT(stats[0].epochs, 1.0);
}

TEST_F(DataStreamTest, WithoutAThreadItIsAnErrorAndLaterGoesOn) {
  const auto stream = Open({{.kind = DataSpec::Kind::kTasks, .seed = 5}}, {.batch_tokens = 512, .sequence_length = 128});
  {
    const ThreadLimitForTest limit(0);
    const auto batch = stream->Next();
    ASSERT_FALSE(batch);
    EXPECT_EQ(batch.error().code, ErrorCode::kResource);
  }
  EXPECT_TRUE(stream->Next());
}

TEST_F(DataStreamTest, TasksAlonePadLittle) {
  const DataStreamOptions options{.batch_tokens = 4096, .sequence_length = 1024};
  const auto stream = Open({{.kind = DataSpec::Kind::kTasks, .seed = 3}}, options);
  int64_t padding = 0;
  for (int i = 0; i < 100; ++i) {
    const auto batch = stream->Next();
    ASSERT_TRUE(batch) << batch.error().message;
    CheckBatch(*batch, options, *tokenizer_);
    padding += batch->padding;
  }
  EXPECT_LT(static_cast<double>(padding), 0.02 * 100 * 4096);
}

// Every source alone and all together: what follows a restore is what would have followed anyway.
TEST_F(DataStreamTest, RestoreContinuesExactly) {
  const std::vector<DataSpec> mixed = Mixed();
  std::vector<std::vector<DataSpec>> cases = {{mixed[0]}, {mixed[1]}, {mixed[2]}, mixed};
  DataSpec held_out = mixed[0];
  held_out.held_out = true;
  held_out.held_out_share = 0.3;
  cases.push_back({held_out});
  for (size_t c = 0; c < cases.size(); ++c) {
    SCOPED_TRACE(c);
    const DataStreamOptions options{.batch_tokens = 1024, .sequence_length = 256, .seed = 9};
    const auto stream = Open(cases[c], options);
    std::vector<json> states = {stream->State()};
    std::vector<Batch> batches;
    for (int i = 0; i < 160; ++i) {
      auto batch = stream->Next();
      ASSERT_TRUE(batch) << batch.error().message;
      batches.push_back(std::move(*batch));
      states.push_back(json::parse(stream->State().dump()));
    }
    for (const size_t at : {0, 1, 2, 3, 17, 64, 100, 159}) {
      SCOPED_TRACE(at);
      const auto other = Open(cases[c], options);
      if (at % 2 == 1) {
        ASSERT_TRUE(other->Next());  // also after it has been used
      }
      const Status restored = other->Restore(states[at]);
      ASSERT_TRUE(restored) << restored.error().message;
      EXPECT_EQ(other->State(), states[at]);
      for (size_t i = at; i < std::min<size_t>(at + 20, batches.size()); ++i) {
        const auto batch = other->Next();
        ASSERT_TRUE(batch) << batch.error().message;
        ASSERT_TRUE(Same(*batch, batches[i])) << i;
        ASSERT_EQ(json::parse(other->State().dump()), states[i + 1]) << i;
      }
    }
  }
}

TEST_F(DataStreamTest, RanksTakeTurns) {
  const std::vector<DataSpec> mixed = Mixed();
  DataStreamOptions options{.batch_tokens = 1024, .sequence_length = 256};
  const auto alone = Open(mixed, options);
  options.ranks = 3;
  std::vector<std::unique_ptr<DataStream>> ranks;
  for (options.rank = 0; options.rank < 3; ++options.rank) ranks.push_back(Open(mixed, options));
  for (int i = 0; i < 30; ++i) {
    const auto whole = alone->Next(), part = ranks[static_cast<size_t>(i % 3)]->Next();
    ASSERT_TRUE(whole && part);
    EXPECT_TRUE(Same(*whole, *part)) << i;
  }
  // All stand at the same place, so one state serves them all, and any number of ranks.
  EXPECT_EQ(ranks[0]->State(), ranks[2]->State());
  EXPECT_EQ(ranks[0]->State(), alone->State());
}

TEST_F(DataStreamTest, AnEpochReadsEverythingOnceAndTheNextInAnotherOrder) {
  const std::string text = ProseForTest("Only", 200000);
  files_.WriteXz("x.txt.xz", text);
  const DataStreamOptions options{.batch_tokens = 1024, .sequence_length = 512};
  const auto stream = Open({{.paths = {files_.Path("x.txt.xz")}}}, options);
  std::map<std::string, int> seen;
  std::vector<std::string> order;
  while (stream->Stats()[0].epochs < 2.2) {
    const auto batch = stream->Next();
    ASSERT_TRUE(batch);
    const std::string decoded = tokenizer_->Decode(batch->tokens);
    for (size_t at = 0; (at = decoded.find("Only paragraph ", at)) != std::string::npos; ++at) {
      const size_t end = decoded.find(':', at);
      if (end == std::string::npos || end - at > 24) continue;
      ++seen[decoded.substr(at, end - at)];
      order.push_back(decoded.substr(at, end - at));
    }
  }
  int paragraphs = 0;
  for (size_t at = 0; (at = text.find("Only paragraph ", at)) != std::string::npos; ++at) ++paragraphs;
  EXPECT_GT(static_cast<int>(seen.size()), paragraphs * 95 / 100);  // a few were cut in the name
  for (const auto& [name, count] : seen) EXPECT_LE(count, 4) << name;
  EXPECT_NE(order[0], order[seen.size()]);
}

TEST_F(DataStreamTest, HeldOutPartsDoNotMeet) {
  for (const bool xz : {false, true}) {
    const std::string text = ProseForTest("Split", 100000);
    const std::string path = xz ? files_.WriteXz("s.txt.xz", text) : files_.Write("s.txt", text);
    const DataStreamOptions options{.batch_tokens = 512, .sequence_length = 256};
    std::set<std::string> parts[2];
    for (const bool held_out : {false, true}) {
      const auto stream = Open({{.paths = {path}, .held_out = held_out, .held_out_share = 0.25}}, options);
      while (stream->Stats()[0].epochs < 1.1) {
        const auto batch = stream->Next();
        ASSERT_TRUE(batch);
        const std::string decoded = tokenizer_->Decode(batch->tokens);
        for (size_t at = 0; (at = decoded.find("paragraph ", at)) != std::string::npos; ++at) {
          const size_t end = decoded.find(':', at);
          if (end != std::string::npos && end - at < 16) parts[held_out].insert(decoded.substr(at, end - at));
        }
      }
    }
    for (const std::string& name : parts[1]) EXPECT_EQ(parts[0].count(name), 0u) << name;
    const double share = static_cast<double>(parts[1].size()) / static_cast<double>(parts[0].size() + parts[1].size());
    EXPECT_NEAR(share, 0.25, 0.05);
  }
}

TEST_F(DataStreamTest, DocumentSeparatorsEndDocuments) {
  files_.Write("d.txt", "First story.\n<|endoftext|>\nSecond story.\n<|endoftext|>\n");
  const DataStreamOptions options{.batch_tokens = 64, .sequence_length = 64};
  const auto stream = Open({{.paths = {files_.Path("d.txt")}}}, options);
  const auto batch = stream->Next();
  ASSERT_TRUE(batch);
  const std::string text = tokenizer_->Decode(std::span(batch->tokens).first(static_cast<size_t>(batch->doc_begin[1])));
  EXPECT_TRUE(text == "First story." || text == "Second story.") << text;
  EXPECT_EQ(batch->targets[static_cast<size_t>(batch->doc_begin[1]) - 1], tokenizer_->eos_id());
}

TEST_F(DataStreamTest, MissingAndWrongFiles) {
  EXPECT_THAT(OpenError({{.paths = {files_.Path("none*.txt")}}}), AllOf(HasSubstr("none*.txt"), HasSubstr("no file matches")));
  EXPECT_THAT(OpenError({{.paths = {files_.Path("none.txt")}}}), HasSubstr("none.txt: no such file"));
  EXPECT_THAT(OpenError({{.paths = {files_.Path("")}}}), HasSubstr("a folder"));
  EXPECT_THAT(OpenError({{.paths = {files_.Write("a.gz", "x")}}}), HasSubstr("not read"));
  EXPECT_THAT(OpenError({{.kind = DataSpec::Kind::kChat, .paths = {files_.Write("t.txt", "x")}}}), HasSubstr(".jsonl"));
  EXPECT_THAT(OpenError({}), HasSubstr("no data sources"));
  EXPECT_THAT(OpenError({{.kind = DataSpec::Kind::kTasks, .families = {"no such"}}}), HasSubstr("no such"));
  EXPECT_THAT(ReadError({{.paths = {files_.Write("empty.txt", "")}}}), HasSubstr("nothing to read"));
  EXPECT_THAT(ReadError({{.paths = {files_.Write("blank.txt", "\n \n\n")}}}), HasSubstr("nothing to read"));
}

TEST_F(DataStreamTest, DamagedXzFiles) {
  const std::string whole = TempFiles::Xz(ProseForTest("Xz", 300000));
  EXPECT_THAT(OpenError({{.paths = {files_.Write("cut.txt.xz", whole.substr(0, whole.size() / 2))}}}),
              AllOf(HasSubstr("cut.txt.xz"), HasSubstr("cut short")));
  EXPECT_THAT(OpenError({{.paths = {files_.Write("tiny.txt.xz", whole.substr(0, 5))}}}), HasSubstr("tiny.txt.xz"));
  EXPECT_THAT(OpenError({{.paths = {files_.Write("none.txt.xz", "")}}}), HasSubstr("empty"));
  EXPECT_THAT(OpenError({{.paths = {files_.Write("no.txt.xz", std::string(1000, 'x'))}}}), HasSubstr("not an .xz file"));
  std::string flipped = whole;
  flipped[flipped.size() / 2] ^= 0x40;
  EXPECT_THAT(ReadError({{.paths = {files_.Write("flip.txt.xz", flipped)}}}),
              AllOf(HasSubstr("flip.txt.xz"), HasSubstr("damaged")));
}

TEST_F(DataStreamTest, BadLinesAreNamed) {
  const auto chat = [&](const std::string& line) {
    files_.Write("bad.jsonl", ChatsForTest(3) + line + "\n" + ChatsForTest(3));
    return ReadError({{.kind = DataSpec::Kind::kChat, .paths = {files_.Path("bad.jsonl")}}});
  };
  EXPECT_THAT(chat("{"), AllOf(HasSubstr("bad.jsonl: line 4"), HasSubstr("not valid JSON")));
  EXPECT_THAT(chat("{\"messages\": 3}"), AllOf(HasSubstr("line 4"), HasSubstr("\"messages\"")));
  EXPECT_THAT(chat("{\"messages\": [3]}"), HasSubstr("not an object"));
  EXPECT_THAT(chat("{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}"), HasSubstr("role \"tool\""));
  EXPECT_THAT(chat("{\"messages\": [{\"role\": \"user\"}]}"), HasSubstr("\"content\""));
  EXPECT_THAT(chat("\"\xff\""), HasSubstr("line 4"));
  EXPECT_THAT(chat(std::string(100000, '[')), HasSubstr("line 4"));
  files_.Write("t.jsonl", "{\"text\": \"a b c\"}\n{\"words\": 1}\n");
  EXPECT_THAT(ReadError({{.paths = {files_.Path("t.jsonl")}}}), AllOf(HasSubstr("t.jsonl: line 2"), HasSubstr("\"text\"")));
}

TEST_F(DataStreamTest, TooLongChatsAreLeftOut) {
  std::string lines = ChatsForTest(20);
  lines += json{{"messages", {{{"role", "user"}, {"content", "q"}}, {{"role", "assistant"}, {"content", std::string(900, 'z')}}}}}.dump() + "\n";
  lines += "{\"messages\": [{\"role\": \"user\", \"content\": \"nobody answers\"}]}\n";
  files_.Write("long.jsonl", lines);
  const auto stream = Open({{.kind = DataSpec::Kind::kChat, .paths = {files_.Path("long.jsonl")}}},
                           {.batch_tokens = 512, .sequence_length = 256});
  while (stream->Stats()[0].epochs < 2) ASSERT_TRUE(stream->Next());
  EXPECT_GE(stream->Stats()[0].left_out, 2);
  files_.Write("onlylong.jsonl", json{{"messages", {{{"role", "user"}, {"content", "q"}}, {{"role", "assistant"}, {"content", std::string(900, 'z')}}}}}.dump() + "\n");
  EXPECT_THAT(ReadError({{.kind = DataSpec::Kind::kChat, .paths = {files_.Path("onlylong.jsonl")}}}),
              HasSubstr("not one document can be used"));
}

TEST_F(DataStreamTest, InvalidUtf8InProseIsKeptAsBytes) {
  std::string text = ProseForTest("Utf", 20000);
  for (size_t i = 100; i < text.size(); i += 97) text[i] = static_cast<char>(0x80 + i % 128);
  files_.Write("u.txt", text);
  const auto stream = Open({{.paths = {files_.Path("u.txt")}}}, {.batch_tokens = 4096, .sequence_length = 1024});
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(stream->Next());
}

TEST_F(DataStreamTest, AFileThatShrinksIsNoticed) {
  const std::string path = files_.Write("s.txt", ProseForTest("Shrink", 9 << 20));
  const auto stream = Open({{.paths = {path}}}, {.batch_tokens = 65536, .sequence_length = 1024});
  ASSERT_TRUE(stream->Next());
  std::filesystem::resize_file(path, 1000);
  std::string message;
  for (int i = 0; i < 1000 && message.empty(); ++i) {
    if (const auto batch = stream->Next(); !batch) message = batch.error().message;
  }
  EXPECT_THAT(message, AllOf(HasSubstr("s.txt"), HasSubstr("was it changed?")));
}

TEST_F(DataStreamTest, StatesOfOtherStreamsAreRefused) {
  const std::vector<DataSpec> mixed = Mixed();
  const DataStreamOptions options{.batch_tokens = 1024, .sequence_length = 256};
  const auto stream = Open(mixed, options);
  ASSERT_TRUE(stream->Next());
  const json state = stream->State();
  const auto refused = [&](const std::vector<DataSpec>& sources, const DataStreamOptions& other) {
    const Status status = Open(sources, other)->Restore(state);
    if (status) return std::string("accepted");
    EXPECT_EQ(status.error().code, ErrorCode::kCorrupt);
    return status.error().message;
  };
  EXPECT_THAT(refused(mixed, {.batch_tokens = 2048, .sequence_length = 256}), HasSubstr("batch_tokens differs"));
  EXPECT_THAT(refused(mixed, {.batch_tokens = 1024, .sequence_length = 256, .seed = 2}), HasSubstr("seed differs"));
  std::vector<DataSpec> heavier = mixed;
  heavier[1].weight = 3;
  EXPECT_THAT(refused(heavier, options), HasSubstr("sources differs"));
  json broken = state;
  broken["packer"]["pending"] = 3;
  const auto other = Open(mixed, options);
  ASSERT_FALSE(other->Restore(broken));
  EXPECT_FALSE(other->Next());  // nobody knows where it stands
  ASSERT_TRUE(other->Restore(state));
  EXPECT_TRUE(other->Next());
  files_.Write("a.txt", ProseForTest("Alpha", 50000));
  EXPECT_THAT(refused(mixed, options), HasSubstr("sources differs"));
}

// A state is a file, and files are damaged: each value replaced in turn must be refused or lead to readable batches.
TEST_F(DataStreamTest, HostileStates) {
  const std::vector<DataSpec> mixed = Mixed();
  const DataStreamOptions options{.batch_tokens = 512, .sequence_length = 128};
  const auto stream = Open(mixed, options);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(stream->Next());
  const json state = stream->State();
  int tried = 0;
  const json flat = state.flatten();
  for (const auto& [key, value] : flat.items()) {
    if (key.find("/tokens/") != std::string::npos && ++tried % 200 != 0) continue;
    for (const json& hostile : {json(), json(-1), json(uint64_t{1} << 60), json("x"), json(999999)}) {
      json changed = state;
      changed[json::json_pointer(key)] = hostile;
      const auto other = Open(mixed, options);
      if (other->Restore(changed)) {
        for (int i = 0; i < 3; ++i) {
          const auto batch = other->Next();
          if (!batch) break;
          ASSERT_EQ(batch->tokens.size(), 512u);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fathom
