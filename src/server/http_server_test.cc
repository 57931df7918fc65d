#include "server/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <thread>

#include "base/start_thread.h"
#include "server/fake_service_for_test.h"
#include "server/http_client_for_test.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kHello = R"({"messages":[{"role":"user","content":"Hello"}]})";
const std::string kStream = R"({"messages":[{"role":"user","content":"Hello"}],"stream":true})";

bool Eventually(const std::function<bool()>& condition, double seconds = 10) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

class HttpServerTest : public testing::Test {
 protected:
  void Start() {
    options.port = 0;
    options.app.model_name = "tiny";
    auto started = Server::Start(service, options);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    server = std::move(*started);
  }
  void TearDown() override {
    if (server == nullptr) return;
    server->BeginDrain();
    service.Drain(0);
    server->Stop(5);
  }
  ClientForTest Client() { return ClientForTest(server->port()); }

  FakeService service;
  ServerOptions options;
  std::unique_ptr<Server> server;
};

TEST_F(HttpServerTest, WithoutItsThreadsItDoesNotStart) {
  options.port = 0;
  for (int more = 0; more < 1 + options.worker_threads; ++more) {
    const ThreadLimitForTest limit(more);
    const auto started = Server::Start(service, options);
    ASSERT_FALSE(started) << more;
    EXPECT_EQ(started.error().code, ErrorCode::kResource);
    EXPECT_THAT(started.error().message, HasSubstr("threads"));
  }
  Start();
  EXPECT_EQ(Client().Get("/health").status, 200);
}

TEST_F(HttpServerTest, AnswersAChat) {
  service.default_script = {.reasoning = "hm", .content = "\n\nHello there", .cached_tokens = 7};
  Start();
  auto client = Client();
  const HttpReply reply = client.Post("/v1/chat/completions", kHello);
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.Header("content-type"), "application/json");
  const auto json = reply.Json();
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["model"], "tiny");
  EXPECT_EQ(json["choices"][0]["message"]["content"], "Hello there");
  EXPECT_EQ(json["choices"][0]["message"]["reasoning_content"], "hm");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(json["usage"]["prompt_cache_hit_tokens"], 7);
  EXPECT_EQ(json["usage"]["prompt_tokens"], json["usage"]["prompt_cache_miss_tokens"].get<int>() + 7);
  // The connection goes on.
  EXPECT_EQ(client.Get("/health").status, 200);
  EXPECT_EQ(client.Post("/chat/completions", kHello).status, 200);
  EXPECT_EQ(client.Post("/beta/chat/completions", kHello).status, 200);
}

TEST_F(HttpServerTest, StreamsAChatWithProgressAndKeepAlive) {
  options.keep_alive_seconds = 0.05;
  service.default_script = {.content = "abc", .prefill_seconds = 0.4, .progress_reports = 2};
  Start();
  auto client = Client();
  const HttpReply reply = client.Post("/v1/chat/completions", kStream);
  ASSERT_EQ(reply.status, 200);
  EXPECT_THAT(reply.Header("content-type"), HasSubstr("text/event-stream"));
  EXPECT_THAT(reply.body, HasSubstr(": progress {\"prompt_tokens\":"));
  EXPECT_THAT(reply.body, HasSubstr(": keep-alive\n\n"));
  EXPECT_THAT(reply.body, HasSubstr(R"("delta":{"content":"b"})"));
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n"));
  EXPECT_EQ(client.Get("/health").status, 200);
}

TEST_F(HttpServerTest, PipelinedRequestsAreAnsweredInOrder) {
  service.default_script = {.content = "one", .token_seconds = 0.02};
  Start();
  auto client = Client();
  client.SendPost("/v1/chat/completions", kHello);
  client.SendPost("/v1/chat/completions", kStream);
  client.Send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(client.Receive().body, HasSubstr("\"chat.completion\""));
  EXPECT_THAT(client.Receive().body, HasSubstr("[DONE]"));
  EXPECT_THAT(client.Receive().body, HasSubstr("\"list\""));
  EXPECT_THAT(client.Receive().body, HasSubstr("\"ok\""));
  EXPECT_EQ(service.Cancelled(), 0u);
}

TEST_F(HttpServerTest, ChunkedBodiesAndContinue) {
  Start();
  auto client = Client();
  client.Send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (size_t i = 0; i < kHello.size(); i += 7) {
    const std::string piece = kHello.substr(i, 7);
    char size[8];
    std::snprintf(size, sizeof size, "%zx", piece.size());
    client.Send(std::string(size) + "\r\n" + piece + "\r\n");
  }
  client.Send("0\r\n\r\n");
  EXPECT_EQ(client.Receive().status, 200);

  client.Send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: " +
              std::to_string(kHello.size()) + "\r\n\r\n");
  ASSERT_TRUE(client.ReadUntil("100 Continue\r\n\r\n"));
  client.Send(kHello);
  EXPECT_EQ(client.Receive().status, 200);
}

TEST_F(HttpServerTest, AClientThatLeavesCancelsItsRequest) {
  service.default_script = {.hang = true};
  Start();
  for (const std::string& body : {kHello, kStream}) {
    auto client = Client();
    const size_t before = service.Cancelled();
    client.SendPost("/v1/chat/completions", body);
    ASSERT_TRUE(Eventually([&] { return service.Running() == 1; }));
    client.Close();
    EXPECT_TRUE(Eventually([&] { return service.Cancelled() == before + 1 && service.Running() == 0; }));
  }
  // Also while it is being told of the prompt's progress, and in the middle of an answer.
  service.SetScript({.content = std::string(100000, 'x'), .prefill_seconds = 0.2, .token_seconds = 0.001, .progress_reports = 10});
  auto client = Client();
  client.SendPost("/v1/chat/completions", kStream);
  ASSERT_TRUE(client.ReadUntil("\"content\":\"x\""));
  client.Close();
  EXPECT_TRUE(Eventually([&] { return service.Cancelled() == 3 && service.Running() == 0; }));
}

TEST_F(HttpServerTest, RefusesWhatIsNoHttp) {
  options.max_header_bytes = 4096;
  options.max_body_bytes = 1000;
  Start();
  const auto status_of = [&](const std::string& bytes) {
    auto client = Client();
    client.Send(bytes);
    return client.Receive().status;
  };
  EXPECT_EQ(status_of("\x16\x03\x01\x02 hello\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET  HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET foo HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(8000, 'a') + "\r\n\r\n"), 431);
  EXPECT_EQ(status_of("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"), 413);
  EXPECT_EQ(status_of("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                      "99999999999999999999999\r\n\r\n"), 400);
  EXPECT_EQ(status_of("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                      "7d0\r\n" + std::string(2000, ' ') + "\r\n0\r\n\r\n"), 413);
  EXPECT_EQ(status_of("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                      "zz\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"), 404);
  EXPECT_EQ(status_of("DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"), 405);
  auto client = Client();
  client.Send("HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.Receive(true).status, 200);
  EXPECT_EQ(client.Get("/health").status, 200);
}

TEST_F(HttpServerTest, SlowClientsAreNotWaitedFor) {
  options.header_seconds = 0.2;
  options.idle_seconds = 0.2;
  options.body_stall_seconds = 0.2;
  Start();
  auto silent = Client(), half_head = Client(), half_body = Client();
  half_head.Send("GET /health HTTP/1.1\r\nHost: loc");
  half_body.Send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
  for (auto* client : {&silent, &half_head, &half_body}) {
    EXPECT_FALSE(client->Read(5));
    EXPECT_TRUE(client->ended);
  }
}

TEST_F(HttpServerTest, AClientThatTakesNothingIsDropped) {
  options.send_stall_seconds = 0.3;
  service.default_script = {.content = std::string(10000, 'x')};  // with its logprobs more than any socket buffers
  Start();
  auto client = Client();
  client.SendPost("/v1/chat/completions", R"({"messages":[{"role":"user","content":"Hello"}],"stream":true,)"
                                          R"("logprobs":true,"top_logprobs":20})");
  EXPECT_TRUE(Eventually([&] { return server->metrics().disconnected.value() == 1; }, 120));
}

TEST_F(HttpServerTest, HealthAnswersWhileEverythingElseIsBusy) {
  options.max_connections = 8;
  service.default_script = {.hang = true};
  Start();
  std::vector<ClientForTest> busy;
  for (int i = 0; i < 8; ++i) {
    busy.push_back(Client());
    busy.back().SendPost("/v1/chat/completions", kStream);
  }
  ASSERT_TRUE(Eventually([&] { return service.Running() == 8; }));
  auto ninth = Client();
  EXPECT_EQ(ninth.Get("/health").status, 200);
  auto tenth = Client();
  const HttpReply refused = tenth.Post("/v1/chat/completions", kHello);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.Header("retry-after"), "1");
}

TEST_F(HttpServerTest, ManyIdleStreamsAreCheap) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < 4300) GTEST_SKIP() << "this system allows " << limit.rlim_cur << " open files, 4300 are needed";
  constexpr size_t kStreams = 2000;
  service.default_script = {.hang = true};
  Start();
  const auto resident = [] {
    long pages = 0, ignored = 0;
    if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
      if (std::fscanf(file, "%ld %ld", &ignored, &pages) != 2) pages = 0;
      std::fclose(file);
    }
    return pages * sysconf(_SC_PAGESIZE);
  };
  const long before = resident();
  const auto begin = std::chrono::steady_clock::now();
  std::vector<ClientForTest> clients;
  for (size_t i = 0; i < kStreams; ++i) {
    clients.push_back(Client());
    ASSERT_TRUE(clients.back().connected());
    clients.back().SendPost("/v1/chat/completions", kStream);
  }
  ASSERT_TRUE(Eventually([&] { return service.Running() == kStreams; }, 60));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const long bytes = (resident() - before) / static_cast<long>(kStreams);
  RecordProperty("bytes_per_stream", static_cast<int>(bytes));
  std::printf("2000 streams in %.2f s, %ld bytes each (both ends and the fake request)\n", seconds, bytes);
  EXPECT_LT(bytes, 100 << 10);
  // Idle means idle: their threads do next to nothing.
  rusage usage_before{}, usage_after{};
  getrusage(RUSAGE_SELF, &usage_before);
  std::this_thread::sleep_for(std::chrono::seconds(1));
  getrusage(RUSAGE_SELF, &usage_after);
  const auto cpu = [](const rusage& u) {
    return static_cast<double>(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           static_cast<double>(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
  };
  EXPECT_LT(cpu(usage_after) - cpu(usage_before), 0.5);
  auto client = Client();
  EXPECT_EQ(client.Get("/health").status, 200);
  clients.clear();
  EXPECT_TRUE(Eventually([&] { return service.Running() == 0; }, 60));
}

TEST_F(HttpServerTest, DrainFinishesWhatRunsAndRefusesTheRest) {
  service.default_script = {.content = "slowly", .token_seconds = 0.1};
  Start();
  auto running = Client(), idle = Client(), late = Client();
  EXPECT_EQ(idle.Get("/health").status, 200);
  late.Send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(kHello.size()) +
            "\r\n");
  running.SendPost("/v1/chat/completions", kStream);
  ASSERT_TRUE(running.ReadUntil("\"content\":\"s\""));
  server->BeginDrain();
  EXPECT_FALSE(idle.Read(5));
  EXPECT_TRUE(idle.ended);
  late.Send("\r\n" + kHello);
  EXPECT_EQ(late.Receive().status, 503);
  service.Drain(10);
  server->Stop(5);
  EXPECT_TRUE(running.ReadUntil("[DONE]", 1));
  EXPECT_THAT(running.buffer, HasSubstr("\"content\":\"y\""));
}

TEST_F(HttpServerTest, WhatTheDrainCutsIsToldSo) {
  service.default_script = {.content = "never ready", .token_seconds = 30};
  Start();
  auto client = Client();
  client.SendPost("/v1/chat/completions", kStream);
  ASSERT_TRUE(client.ReadUntil("\"content\":\"n\""));
  server->BeginDrain();
  service.Drain(0);
  server->Stop(5);
  EXPECT_TRUE(client.ReadUntil("[DONE]", 2));
  EXPECT_THAT(client.buffer, HasSubstr("insufficient_system_resource"));
}

TEST_F(HttpServerTest, ErrorsOfTheServiceHaveTheirStatus) {
  // Which is which is told by the reason, not by the words.
  service.scripts = {{.refuse = SubmitError{Refusal::kQueueFull, "the prompt of somebody else"}},
                     {.refuse = SubmitError{Refusal::kTooLong, "waiting does not help"}},
                     {.refuse = SubmitError{Refusal::kTooLong, "waiting does not help"}},
                     {.refuse = SubmitError{Refusal::kInvalid, "priority is 9"}},
                     {.refuse = SubmitError{Refusal::kDraining, "soon over"}},
                     {.fail = Error{ErrorCode::kInternal, "something broke"}},
                     {.fail = Error{ErrorCode::kInternal, "something broke"}}};
  Start();
  auto client = Client();
  const HttpReply full = client.Post("/v1/chat/completions", kStream);
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.Header("retry-after"), "1");
  EXPECT_EQ(full.Json()["error"]["type"], "rate_limit_error");
  EXPECT_EQ(full.Json()["error"]["code"], "queue_full");
  const HttpReply too_long = client.Post("/v1/chat/completions", kHello);
  EXPECT_EQ(too_long.status, 400);
  EXPECT_EQ(too_long.Header("retry-after"), "");
  EXPECT_EQ(too_long.Json()["error"]["code"], "context_length_exceeded");
  EXPECT_EQ(too_long.Json()["error"]["param"], "messages");
  const HttpReply text = client.Post("/v1/completions", R"({"prompt": [1, 2]})");
  EXPECT_EQ(text.status, 400);
  EXPECT_EQ(text.Json()["error"]["param"], "prompt");
  const HttpReply invalid = client.Post("/v1/chat/completions", kHello);
  EXPECT_EQ(invalid.status, 400);
  EXPECT_EQ(invalid.Json()["error"]["code"], "invalid_value");
  const HttpReply late = client.Post("/v1/chat/completions", kHello);
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(late.Json()["error"]["code"], "shutting_down");
  EXPECT_EQ(client.Post("/v1/chat/completions", kHello).status, 500);
  const HttpReply broken = client.Post("/v1/chat/completions", kStream);
  EXPECT_EQ(broken.status, 200);  // the stream had begun
  EXPECT_THAT(broken.body, HasSubstr("\"error\":{\"message\":\"something broke\""));
  EXPECT_THAT(broken.body, Not(HasSubstr("[DONE]")));
}

TEST_F(HttpServerTest, AnswersOfOnePromptFollowTheFirst) {
  service.default_script = {.content = "abc", .prefill_seconds = 0.05};
  Start();
  auto client = Client();
  const HttpReply reply =
      client.Post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"Hi"}],"n":3,"seed":5})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.Json()["choices"].size(), 3u);
  EXPECT_EQ(reply.Json()["choices"][2]["index"], 2);
  const auto requests = service.Requests();
  ASSERT_EQ(requests.size(), 3u);
  EXPECT_EQ(requests[0].params.sampling.seed, 5u);
  EXPECT_EQ(requests[2].params.sampling.seed, 7u);
  // The prompt is paid for once.
  EXPECT_EQ(reply.Json()["usage"]["prompt_tokens"], requests[0].prompt.size());
  EXPECT_EQ(reply.Json()["usage"]["completion_tokens"], 3 * 4);
}

TEST_F(HttpServerTest, Http10GetsAPlainStream) {
  Start();
  auto client = Client();
  client.Send("POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Length: " +
              std::to_string(kStream.size()) + "\r\n\r\n" + kStream);
  const HttpReply reply = client.Receive();
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.Header("transfer-encoding"), "");
  EXPECT_TRUE(reply.body.ends_with("data: [DONE]\n\n"));
}

TEST_F(HttpServerTest, ALongPromptIsEncodedElsewhere) {
  service.fake_engine.context = 3'000'000;
  Start();
  const std::string body = R"({"messages":[{"role":"user","content":")" + std::string(2'000'000, 'a') + "\"}]}";
  auto client = Client();
  EXPECT_EQ(client.Post("/v1/chat/completions", body).status, 200);
  EXPECT_GT(service.Requests().front().prompt.size(), 2'000'000u);
}

TEST_F(HttpServerTest, ThePortThatIsTakenIsNamed) {
  Start();
  ServerOptions other = options;
  other.port = server->port();
  const Status taken = Server::Check(other);
  ASSERT_FALSE(taken.has_value());
  EXPECT_THAT(taken.error().message, HasSubstr("port " + std::to_string(server->port()) + " is taken"));
  EXPECT_THAT(taken.error().message, HasSubstr("--port"));
}

TEST_F(HttpServerTest, BeyondLoopbackAKeyIsRequired) {
  options.host = "0.0.0.0";
  options.port = 0;
  const Status refused = Server::Check(options);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("--api-keys"));
}

TEST_F(HttpServerTest, KeysTenantsAndLimits) {
  const auto alice = MakeApiKey("alice"), bob = MakeApiKey("bob", "team");
  ASSERT_TRUE(alice && bob);
  options.app.keys = *ApiKeys::Parse(alice->line + "\n" + bob->line + " admin\n", "keys");
  options.app.quota.concurrent = 1;
  Start();
  auto client = Client();
  EXPECT_EQ(client.Get("/health").status, 200);
  const HttpReply none = client.Post("/v1/chat/completions", kHello);
  EXPECT_EQ(none.status, 401);
  auto second = Client();
  EXPECT_EQ(second.Post("/v1/chat/completions", kHello, "Authorization: Bearer fsk-wrong\r\n").status, 401);
  auto third = Client();
  const std::string alices = "Authorization: Bearer " + alice->key + "\r\n", bobs = "x-api-key: " + bob->key + "\r\n";
  EXPECT_EQ(third.Post("/v1/chat/completions", kHello, alices).status, 200);
  EXPECT_EQ(third.Post("/v1/messages", R"({"max_tokens":5,"messages":[{"role":"user","content":"x"}]})", bobs).status, 200);
  EXPECT_EQ(service.Requests()[0].tenant, "alice");
  EXPECT_EQ(service.Requests()[1].tenant, "team");
  EXPECT_EQ(third.Get("/metrics", alices).status, 403);
  EXPECT_EQ(third.Get("/metrics", bobs).status, 200);
  // One at a time for each.
  service.SetScript({.hang = true});
  auto busy = Client();
  busy.SendPost("/v1/chat/completions", kStream, alices);
  ASSERT_TRUE(Eventually([&] { return service.Running() == 1; }));
  const HttpReply more = third.Post("/v1/chat/completions", kHello, alices);
  EXPECT_EQ(more.status, 429);
  EXPECT_EQ(more.Json()["error"]["code"], "concurrency_limit_exceeded");
  busy.Close();
  EXPECT_TRUE(Eventually([&] { return service.Running() == 0; }));
  service.SetScript({});
  EXPECT_TRUE(Eventually([&] { return third.Post("/v1/chat/completions", kHello, alices).status == 200; }));
}

TEST_F(HttpServerTest, MetricsTellWhatHappened) {
  service.default_script = {.content = "abcd", .cached_tokens = 5};
  Start();
  auto client = Client();
  client.Post("/v1/chat/completions", kHello);
  client.Post("/v1/chat/completions", "{");
  const std::string text = client.Get("/metrics").body;
  EXPECT_THAT(text, HasSubstr("# TYPE fathom_time_to_first_token_seconds histogram"));
  EXPECT_THAT(text, HasSubstr("fathom_time_to_first_token_seconds_count 1\n"));
  EXPECT_THAT(text, HasSubstr("fathom_inter_token_seconds_count 3\n"));
  EXPECT_THAT(text, HasSubstr("fathom_output_tokens_total 5\n"));
  EXPECT_THAT(text, HasSubstr("fathom_prompt_tokens_cached_total 5\n"));
  EXPECT_THAT(text, HasSubstr("fathom_http_requests_total{route=\"/v1/chat/completions\",status=\"200\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("fathom_http_requests_total{route=\"/v1/chat/completions\",status=\"400\"} 1\n"));
}

TEST(ServerMetrics, TellOfStreamedExpertsWhereThereAreAny) {
  ServerMetrics metrics;
  ServiceStats stats;
  EXPECT_THAT(metrics.Text(stats), Not(HasSubstr("fathom_expert")));
  ExpertStoreStats experts;
  experts.slots = 20;
  experts.demand_reads = 3;
  experts.ahead_reads = 5;
  experts.ahead_used = 4;
  experts.bytes_read = 4096;
  experts.read_seconds = 0.5;
  experts.stall_seconds = 0.25;
  experts.read_times[1] = 2;
  experts.read_times.back() = 1;
  experts.first_layer = 3;
  experts.layer_uses = {10, 6};
  experts.layer_hits = {5, 2};
  stats.experts = experts;
  const std::string text = metrics.Text(stats);
  for (const char* line :
       {"fathom_expert_slots 20\n", "fathom_expert_uses_total{layer=\"3\"} 10\n", "fathom_expert_hits_total{layer=\"4\"} 2\n",
        "fathom_expert_reads_total{why=\"demand\"} 3\n", "fathom_expert_reads_total{why=\"ahead\"} 5\n",
        "fathom_expert_reads_used_total{why=\"ahead\"} 4\n", "fathom_expert_read_bytes_total 4096\n",
        "fathom_expert_read_seconds_bucket{le=\"0.00025\"} 0\n", "fathom_expert_read_seconds_bucket{le=\"0.0005\"} 2\n",
        "fathom_expert_read_seconds_bucket{le=\"+Inf\"} 3\n", "fathom_expert_read_seconds_count 3\n",
        "fathom_expert_stall_seconds_total 0.25\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

}  // namespace
}  // namespace fathom
