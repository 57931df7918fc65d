// A service whose experts come from a disk that fails, hangs, cuts reads short or gives something else, and whose model file
// is cut, changed or replaced meanwhile: the requests concerned get a clear error, the others their answer, nothing wrong
// is ever computed with, and the service goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <set>
#include <thread>

#include "base/source_dir_for_test.h"
#include "engine/engine.h"
#include "engine/resident_model.h"
#include "engine/service.h"
#include "experts/expert_layout.h"
#include "experts/routing_trace.h"
#include "io/fault_env.h"
#include "io/left_behind.h"
#include "io/temp_folder_for_test.h"

namespace fathom {
namespace {

using testing::HasSubstr;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

const std::string kModel = SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf";

bool Eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 20000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return false;
}

std::vector<TokenId> Ids(int count, int first) {
  std::vector<TokenId> ids(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) ids[static_cast<size_t>(i)] = 10 + (i * 37 + first * 11) % 200;
  return ids;
}

using Answered = std::future<Result<ServiceResult>>;

/// Where dense weights are: mapped, or (with a promise of memory) read into memory of the engine's own.
class StorageFaultTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::filesystem::copy_file(kModel, path_);
    for (int i = 0; i < 4; ++i) {
      const auto engine = Engine::Load(kModel, {.threads = 2, .context_length = 200, .kv_type = KvType::kF32});
      ASSERT_TRUE(engine);
      const auto session = (*engine)->NewSession();
      const auto result = (*session)->Generate(Ids(20 + i, i), Params(), {});
      ASSERT_TRUE(result) << result.error().message;
      want_.push_back(result->tokens);
    }
  }
  void TearDown() override {
    fault_.ChangeDirect([](DirectFaults& faults) { faults = {}; });
    service_.reset();
    engine_.reset();
    EXPECT_TRUE(Eventually([] { return LeftBehind() == 0; }));  // they use fault_
  }
  static GenerationParams Params(int max_tokens = 6) {
    GenerationParams params;
    params.sampling.temperature = 0;
    params.max_tokens = max_tokens;
    params.ignore_eos = true;
    return params;
  }
  EngineOptions Options(Env& env) const {
    EngineOptions options{.threads = 2, .context_length = 200, .kv_type = KvType::kF32, .env = &env,
                          .stall_limit = stall_limit_};
    options.experts.memory_bytes = 9 * int64_t{40} << 10;  // of 32; a token needs 4 of each of 2 layers
    if (GetParam()) options.promise.bytes = int64_t{4} << 30;
    return options;
  }
  void Start(Env& env) {
    auto engine = Engine::Load(path_, Options(env));
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    ASSERT_TRUE(engine_->expert_stats());
    ASSERT_LT(engine_->expert_stats()->slots, 16);
    ServiceOptions options{.max_sequences = 8, .step_tokens = 64};
    options.cache.enabled = false;
    auto service = Service::Create(*engine_, options);
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
  }
  void Change(const std::function<void(DirectFaults&)>& change) { fault_.ChangeDirect(change); }

  Answered Submit(std::vector<TokenId> prompt, int max_tokens = 6) {
    auto promise = std::make_shared<std::promise<Result<ServiceResult>>>();
    ServiceRequest request;
    request.prompt = std::move(prompt);
    request.params = Params(max_tokens);
    Answered answered = promise->get_future();
    const auto id = service_->Submit(std::move(request), {.on_done = [promise](Result<ServiceResult> result) {
                                                            promise->set_value(std::move(result));
                                                          }});
    EXPECT_TRUE(id) << id.error().message;
    return answered;
  }
  Result<ServiceResult> Wait(Answered& answered) {
    if (answered.wait_for(std::chrono::seconds(60)) == std::future_status::ready) return answered.get();
    ADD_FAILURE() << "a request does not end";
    return Fail(ErrorCode::kInternal, "hangs");
  }
  std::vector<Answered> SubmitAll() {
    std::vector<Answered> all;
    for (int i = 0; i < 4; ++i) all.push_back(Submit(Ids(20 + i, i)));
    return all;
  }
  /// Either right or an error of this kind; how many errors.
  int CheckAll(std::vector<Answered> all, ErrorCode code, const std::string& says) {
    int errors = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      const auto result = Wait(all[i]);
      if (result) {
        EXPECT_EQ(result->generation.tokens, want_[i]) << i;
        continue;
      }
      ++errors;
      EXPECT_EQ(result.error().code, code) << result.error().message;
      EXPECT_THAT(result.error().message, HasSubstr(says));
      EXPECT_THAT(result.error().message, HasSubstr(path_));
    }
    return errors;
  }
  void ExpectAllWell() { EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kInternal, ""), 0); }

  const TempFolderForTest folder_;
  const std::string path_ = folder_ / "model.gguf";
  std::vector<std::vector<TokenId>> want_;
  FaultEnv fault_;
  milliseconds stall_limit_{250};
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Service> service_;
};
INSTANTIATE_TEST_SUITE_P(Weights, StorageFaultTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "promised" : "mapped"; });

TEST_P(StorageFaultTest, ReadErrors) {
  Start(fault_);
  ExpectAllWell();
  // For a moment: nobody notices.
  const int64_t before = engine_->expert_stats()->retries;
  Change([](DirectFaults& faults) { faults.failing_reads = 1; });
  ExpectAllWell();
  EXPECT_GE(engine_->expert_stats()->retries, before);
  // For long: an error for everybody who needs the disk, and when it is mended all is as before.
  for (int round = 0; round < 2; ++round) {
    Change([](DirectFaults& faults) { faults.reads_left = 3; });
    EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kIo, "cannot read: injected fault"), 4);
    Change([](DirectFaults& faults) { faults.reads_left = DirectFaults::kNever; });
    ExpectAllWell();
  }
  EXPECT_EQ(service_->stats().failed, 8);
  EXPECT_EQ(engine_->expert_stats()->leased, 0);
}

TEST_P(StorageFaultTest, ShortReads) {
  Start(fault_);
  for (const int64_t reads : {1, 2, 5}) {
    Change([&](DirectFaults& faults) { faults.short_reads = reads; });
    ExpectAllWell();
  }
  Change([](DirectFaults& faults) { faults.short_reads = 1'000'000; });
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kIo, "expert"), 4);
  Change([](DirectFaults& faults) { faults.short_reads = 0; });
  ExpectAllWell();
}

TEST_P(StorageFaultTest, ADiskThatHangs) {
  Start(fault_);
  ExpectAllWell();
  const auto began = Clock::now();
  Change([](DirectFaults& faults) { faults.hang = true; });
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kIo, "has not answered"), 4);
  EXPECT_LT(Clock::now() - began, std::chrono::seconds(20));
  EXPECT_GT(engine_->expert_stats()->unanswered, 0);
  // Also for those who come while it hangs; the service answers questions about itself all the time.
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kIo, "has not answered"), 4);
  EXPECT_EQ(service_->stats().failed, 8);
  Change([](DirectFaults& faults) { faults.hang = false; });
  ExpectAllWell();
  EXPECT_EQ(engine_->expert_stats()->leased, 0);
}

TEST_P(StorageFaultTest, TheServiceGoesWhileTheDiskHangs) {
  Start(fault_);
  Change([](DirectFaults& faults) { faults.hang = true; });
  auto all = SubmitAll();
  ASSERT_TRUE(Eventually([&] { return fault_.direct_counts().waiting > 0; }));
  const auto began = Clock::now();
  service_.reset();
  engine_.reset();
  EXPECT_LT(Clock::now() - began, std::chrono::seconds(20));
  for (Answered& answered : all) {
    const auto result = Wait(answered);
    if (result) {
      EXPECT_EQ(result->generation.finish_reason, FinishReason::kCancelled);
    }
  }
  EXPECT_EQ(LeftBehind(), 1);
  Change([](DirectFaults& faults) { faults.hang = false; });
  EXPECT_TRUE(Eventually([] { return LeftBehind() == 0; }));
}

// Two sequences in the same pass: only the one that needs what cannot be read gets the error.
TEST_P(StorageFaultTest, OnlyWhomItConcerns) {
  // What single tokens choose, from a recording.
  const auto model = ModelFile::Open(path_);
  ASSERT_TRUE(model);
  const auto layout = ExpertLayout::Create(**model);
  ASSERT_TRUE(layout);
  const ExpertGeometry& geometry = layout->geometry();
  constexpr int kTokens = 12;
  std::vector<std::set<ExpertId>> chosen(kTokens);
  for (int t = 0; t < kTokens; ++t) {
    const TempFolderForTest folder;
    EngineOptions options{.threads = 2, .context_length = 200, .kv_type = KvType::kF32};
    options.experts.record_routing = folder / "routing";
    {
      const auto engine = Engine::Load(path_, options);
      ASSERT_TRUE(engine);
      ASSERT_TRUE((*(*engine)->NewSession())->Eval(Ids(1, t)));
    }
    const auto trace = ReadRoutingTrace(Env::Default(), folder / "routing");
    ASSERT_TRUE(trace) << trace.error().message;
    for (int32_t layer = 0; layer < geometry.layers; ++layer)
      for (int32_t k = 0; k < geometry.top_k; ++k)
        chosen[static_cast<size_t>(t)].insert(geometry.Id(layer, trace->Of(0, layer)[static_cast<size_t>(k)]));
  }
  // Tokens a and b, and an expert of a's that b does not choose.
  int a = -1, b = -1;
  ExpertId bad = -1;
  for (int i = 0; i < kTokens && bad < 0; ++i)
    for (int j = 0; j < kTokens && bad < 0; ++j)
      for (const ExpertId id : chosen[static_cast<size_t>(i)])
        if (!chosen[static_cast<size_t>(j)].contains(id)) a = i, b = j, bad = id;
  ASSERT_GE(bad, 0);

  stall_limit_ = std::chrono::seconds(30);
  Start(fault_);
  // A page that is this expert's alone, so that nobody else's read touches it.
  const ExpertRead read = layout->Reads(bad).front();
  Change([&](DirectFaults& faults) {
    faults.fail_begin = read.offset + 4096;
    faults.fail_end = read.offset + 4097;
    faults.hang = true;
  });
  auto first = Submit(Ids(1, b), 1);  // hangs until the others are in
  ASSERT_TRUE(Eventually([&] { return fault_.direct_counts().waiting > 0; }));
  auto concerned = Submit(Ids(1, a), 1), other = Submit(Ids(1, b), 1);
  Change([](DirectFaults& faults) { faults.hang = false; });
  const auto error = Wait(concerned);
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().code, ErrorCode::kIo);
  EXPECT_THAT(error.error().message, HasSubstr("expert " + std::to_string(bad % geometry.experts)));
  EXPECT_TRUE(Wait(first));
  const auto well = Wait(other);
  EXPECT_TRUE(well) << well.error().message;
  EXPECT_EQ(service_->stats().failed, 1);
  Change([](DirectFaults& faults) { faults.fail_begin = faults.fail_end = 0; });
  auto again = Submit(Ids(1, a), 1);
  EXPECT_TRUE(Wait(again));
}

// Bits that differ from an expert's first reading, on a disk or in a file whose time of modification says nothing.
TEST_P(StorageFaultTest, OtherBytesThanBeforeAreNeverComputedWith) {
  Start(fault_);
  for (int i = 0; i < 4; ++i) ExpectAllWell();  // every expert of these prompts has been read
  const auto layout = ExpertLayout::Create(engine_->model_file());
  Change([&](DirectFaults& faults) {
    for (ExpertId id = 0; id < layout->geometry().count(); ++id)
      for (const ExpertRead& read : layout->Reads(id))
        for (int64_t at = read.offset; at < read.offset + read.bytes; at += 64) faults.read_xor[at] = 1;
  });
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kCorrupt, "content was changed"), 4);
  // From then on nothing of this file is trusted.
  Change([](DirectFaults& faults) { faults.read_xor.clear(); });
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kCorrupt, "content was changed"), 4);
  EXPECT_EQ(service_->stats().failed, 8);
  service_.reset();
  engine_.reset();
  Start(fault_);  // loaded again
  ExpectAllWell();
}

TEST_P(StorageFaultTest, ATruncatedFile) {
  Start(Env::Default());
  ExpectAllWell();
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kCorrupt, path_), 4);
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kCorrupt, path_), 4);
  EXPECT_EQ(service_->stats().failed, 8);
}

// In the middle of passes, with weights mapped too.
TEST_P(StorageFaultTest, AFileTruncatedUnderLoad) {
  for (int round = 0; round < 4; ++round) {
    std::filesystem::copy_file(kModel, path_, std::filesystem::copy_options::overwrite_existing);
    Start(Env::Default());
    std::vector<std::vector<Answered>> rounds;
    for (int i = 0; i < 6; ++i) rounds.push_back(SubmitAll());
    ASSERT_TRUE(Eventually([&] { return service_->stats().steps >= 2; }));
    std::this_thread::sleep_for(std::chrono::microseconds(700 * round));
    std::filesystem::resize_file(path_, 4096);
    for (auto& answers : rounds) CheckAll(std::move(answers), ErrorCode::kCorrupt, path_);
    EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kCorrupt, path_), 4);
    service_.reset();
    engine_.reset();
  }
}

TEST_P(StorageFaultTest, AFileChangedInPlace) {
  Start(Env::Default());
  ExpectAllWell();
  std::this_thread::sleep_for(milliseconds(20));  // file systems' clocks are coarse
  std::fstream(path_, std::ios::in | std::ios::out | std::ios::binary).seekp(900'000).put('x');
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kCorrupt, "changed while"), 4);
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kCorrupt, "changed while"), 4);
}

TEST_P(StorageFaultTest, AFileChangedUnderLoad) {
  Start(Env::Default());
  std::vector<std::vector<Answered>> rounds;
  for (int i = 0; i < 6; ++i) rounds.push_back(SubmitAll());
  ASSERT_TRUE(Eventually([&] { return service_->stats().finished >= 2; }));
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  for (int64_t at = 580'000; at < 1'500'000; at += 5000) file.seekp(at).put('x');
  file.close();
  // Right or refused, and not one that is neither.
  for (auto& round : rounds) CheckAll(std::move(round), ErrorCode::kCorrupt, "changed while");
  EXPECT_EQ(CheckAll(SubmitAll(), ErrorCode::kCorrupt, "changed while"), 4);
}

TEST_P(StorageFaultTest, AFileReplacedByRenamingIsTheOldOne) {
  Start(Env::Default());
  ExpectAllWell();
  std::filesystem::copy_file(SourceDirForTest() + "/tests/golden/gguf/v2lite-mainline.gguf", folder_ / "other");
  std::filesystem::rename(folder_ / "other", path_);
  for (int i = 0; i < 3; ++i) ExpectAllWell();
  EXPECT_EQ(service_->stats().failed, 0);
}

// Sessions have the same errors, and stay as long as they were.
TEST_P(StorageFaultTest, ASession) {
  auto engine = Engine::Load(path_, Options(fault_));
  ASSERT_TRUE(engine);
  {
    const auto session = (*engine)->NewSession();
    ASSERT_TRUE((*session)->Eval(Ids(10, 1)));
    Change([](DirectFaults& faults) { faults.hang = true; });
    const Status status = (*session)->Eval(Ids(30, 2));
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kIo);
    EXPECT_EQ((*session)->tokens().size(), 10u);
    Change([](DirectFaults& faults) { faults.hang = false; });
    EXPECT_TRUE((*session)->Eval(Ids(30, 2)));
    const auto result = (*session)->Generate(Ids(20, 0), Params(), {});
    ASSERT_TRUE(result);
    EXPECT_EQ(result->tokens, want_[0]);
  }
  engine->reset();
}

// Loading.

class LoadFaultTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::copy_file(kModel, path_); }
  void TearDown() override {
    fault_.ChangeDirect([](DirectFaults& faults) { faults = {}; });
    EXPECT_TRUE(Eventually([] { return LeftBehind() == 0; }));
  }
  const TempFolderForTest folder_;
  const std::string path_ = folder_ / "model.gguf";
  FaultEnv fault_;
};

TEST_F(LoadFaultTest, ADiskThatHangsIsAnError) {
  const auto began = Clock::now();
  auto file = ModelFile::Open(path_, fault_);
  ASSERT_TRUE(file);
  // The middle of a tensor: not in the samples that are compared first, but in what is read in large pieces.
  const TensorInfo* embedding = (*file)->Find("token_embd.weight");
  ASSERT_NE(embedding, nullptr);
  ASSERT_GT(embedding->bytes, 32 << 10);
  fault_.ChangeDirect([&](DirectFaults& faults) {
    faults.hang_begin = embedding->offset + embedding->bytes / 2;
    faults.hang_end = faults.hang_begin + 1;
  });
  const auto loaded = ResidentModel::Load(std::move(*file), fault_, {.stall_limit = milliseconds(200)}, {});
  EXPECT_LT(Clock::now() - began, std::chrono::seconds(20));
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kIo);
  EXPECT_THAT(loaded.error().message, HasSubstr(path_));
  EXPECT_THAT(loaded.error().message, HasSubstr("has not answered"));
  EXPECT_EQ(LeftBehind(), 1);
}

TEST_F(LoadFaultTest, ShortReadsAndErrorsForAWhileAreTriedAgain) {
  const auto load = [&] {
    auto file = ModelFile::Open(path_, fault_);
    EXPECT_TRUE(file);
    return ResidentModel::Load(std::move(*file), fault_, {}, {});
  };
  ASSERT_TRUE(load());
  const int64_t reads = fault_.direct_counts().reads;  // samples, then pieces
  ASSERT_GT(reads, 1);
  for (const ErrorCode code : {ErrorCode::kIo, ErrorCode::kResource, ErrorCode::kCorrupt}) {
    for (const int64_t bad : {int64_t{0}, reads - 1}) {
      const int64_t before = fault_.direct_counts().reads;
      fault_.ChangeDirect([&](DirectFaults& faults) {
        faults.read_error = code;
        faults.fail_read = [=](int64_t call) { return call == before + bad || call == before + bad + 1; };
      });
      const auto loaded = load();
      EXPECT_TRUE(loaded) << loaded.error().message;
      EXPECT_EQ(fault_.direct_counts().reads, before + reads + 2);
    }
  }
}

TEST_F(LoadFaultTest, AnotherFileAtTheSamePathIsNoticed) {
  auto file = ModelFile::Open(path_);
  ASSERT_TRUE(file);
  // Of the same length and with the same header: somebody else's weights.
  std::filesystem::copy_file(path_, folder_ / "other");
  std::fstream other(folder_ / "other", std::ios::in | std::ios::out | std::ios::binary);
  for (const TensorInfo& tensor : (*file)->tensors()) other.seekp(tensor.offset).write("other weights", 4);
  other.close();
  std::filesystem::rename(folder_ / "other", path_);
  const auto store = ExpertStore::Create(**file, Env::Default(), nullptr, {.slots = 8});
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(store.error().message, HasSubstr(path_));
  const auto loaded = ResidentModel::Load(std::move(*file), Env::Default(), {}, {});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(loaded.error().message, HasSubstr("replaced or changed"));
}

}  // namespace
}  // namespace fathom
