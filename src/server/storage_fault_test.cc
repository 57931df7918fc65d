// A real model behind the server, its experts on a disk that fails: what a client gets, and that the server goes on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/source_dir_for_test.h"
#include "io/fault_env.h"
#include "io/left_behind.h"
#include "io/temp_folder_for_test.h"
#include "server/http_client_for_test.h"
#include "server/http_server.h"

namespace fathom {
namespace {

using testing::HasSubstr;

const std::string kAsk = R"({"prompt":"abcdef ghi","max_tokens":4,"temperature":0})";
const std::string kAskStream = R"({"prompt":"abcdef ghi","max_tokens":4,"temperature":0,"stream":true})";
const std::string kAskAnthropic = R"({"messages":[{"role":"user","content":"abcdef"}],"max_tokens":4})";

class ServerStorageFaultTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::copy_file(SourceDirForTest() + "/tests/golden/gguf/v3-mainline.gguf", path_);
    EngineOptions options{.threads = 2, .context_length = 200, .env = &fault_, .stall_limit = std::chrono::milliseconds(300)};
    options.experts.memory_bytes = 9 * int64_t{40} << 10;
    auto engine = Engine::Load(path_, options);
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    ServiceOptions serving;
    serving.cache.enabled = false;
    auto service = Service::Create(*engine_, serving);
    ASSERT_TRUE(service) << service.error().message;
    service_ = std::move(*service);
    ServerOptions listening;
    listening.port = 0;
    auto server = Server::Start(*service_, listening);
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
  }
  void TearDown() override {
    fault_.ChangeDirect([](DirectFaults& faults) { faults = {}; });
    if (server_ != nullptr) {
      server_->BeginDrain();
      service_->Drain(10);
      server_->Stop(5);
    }
    server_.reset();
    service_.reset();
    engine_.reset();
    for (int i = 0; i < 5000 && LeftBehind() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  HttpReply Post(const std::string& path, const std::string& body) { return ClientForTest(server_->port()).Post(path, body); }
  std::string Answer() {
    const HttpReply reply = Post("/v1/completions", kAsk);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return reply.status == 200 ? reply.Json()["choices"][0]["text"].dump() : "";
  }
  /// What everybody gets while the disk does not do its work.
  void ExpectErrors(int status, const std::string& code, const std::string& says) {
    const HttpReply reply = Post("/v1/completions", kAsk);
    EXPECT_EQ(reply.status, status) << reply.body;
    EXPECT_EQ(reply.Header("retry-after").empty(), status != 503);
    EXPECT_EQ(reply.Json()["error"]["code"], code) << reply.body;
    EXPECT_THAT(reply.Json()["error"]["message"].get<std::string>(), HasSubstr(says));
    EXPECT_THAT(reply.Json()["error"]["message"].get<std::string>(), HasSubstr(path_));
    const HttpReply stream = Post("/v1/completions", kAskStream);
    EXPECT_THAT(stream.body, HasSubstr(says)) << stream.status;
    const HttpReply anthropic = Post("/v1/messages", kAskAnthropic);
    EXPECT_EQ(anthropic.status, status) << anthropic.body;
    EXPECT_EQ(anthropic.Json()["type"], "error") << anthropic.body;
    EXPECT_EQ(ClientForTest(server_->port()).Get("/health").status, 200);
  }

  const TempFolderForTest folder_;
  const std::string path_ = folder_ / "model.gguf";
  FaultEnv fault_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Service> service_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServerStorageFaultTest, ErrorsAreAnswersAndTheServerGoesOn) {
  const std::string want = Answer();
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = 0; });
  ExpectErrors(503, "storage_error", "cannot read");
  fault_.ChangeDirect([](DirectFaults& faults) { faults.reads_left = DirectFaults::kNever; });
  EXPECT_EQ(Answer(), want);

  fault_.ChangeDirect([](DirectFaults& faults) { faults.hang = true; });
  ExpectErrors(503, "storage_error", "has not answered");
  fault_.ChangeDirect([](DirectFaults& faults) { faults.hang = false; });
  EXPECT_EQ(Answer(), want);
  EXPECT_THAT(ClientForTest(server_->port()).Get("/metrics").body, testing::ContainsRegex("fathom_expert_unanswered_total [1-9]"));

  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  ExpectErrors(500, "corrupt_file", path_);
}

}  // namespace
}  // namespace fathom
