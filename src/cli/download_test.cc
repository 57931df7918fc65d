#include "cli/download.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <atomic>
#include <thread>

#include "cli/http_server_for_test.h"
#include "cli/part_file.h"
#include "cli/sha256.h"
#include "cli/temp_folder_for_test.h"

namespace fathom {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

std::string MakeContent(size_t bytes) {
  std::string content(bytes, '\0');
  uint32_t state = 1;
  for (char& c : content) c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  return content;
}

std::string HashOf(const std::string& text) {
  Sha256 sha;
  sha.Add(text.data(), text.size());
  return sha.Finish();
}

class DownloadTest : public ::testing::Test {
 protected:
  DownloadRequest Request(const HttpServerForTest& server) const {
    DownloadRequest request;
    request.url = server.url("/file");
    request.destination = folder_ / "model.gguf";
    request.sha256 = HashOf(content_);
    request.backoff = std::chrono::milliseconds(1);
    return request;
  }
  bool PartThere() const { return fs::exists(folder_ / "model.gguf.part"); }
  bool NoteThere() const { return fs::exists(folder_ / "model.gguf.part.json"); }
  std::string Got() const { return TempFolder::Read(folder_ / "model.gguf"); }

  TempFolder folder_;
  const std::string content_ = MakeContent(300000);
};

TEST_F(DownloadTest, WholeFile) {
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, "\"v1\""); });
  int64_t last_done = 0, last_total = 0;
  DownloadHooks hooks;
  hooks.progress = [&](int64_t done, int64_t total) {
    last_done = done, last_total = total;
    return true;
  };
  const auto result = Download(Request(server), hooks);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(Got(), content_);
  EXPECT_TRUE(result->verified);
  EXPECT_EQ(result->bytes, 300000);
  EXPECT_EQ(last_done, 300000);
  EXPECT_EQ(last_total, 300000);
  EXPECT_FALSE(PartThere());
  EXPECT_FALSE(NoteThere());
}

TEST_F(DownloadTest, ThereAlreadyAsksNobody) {
  TempFolder::Write(folder_ / "model.gguf", "mine");
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, ""); });
  const auto result = Download(Request(server), {});
  ASSERT_TRUE(result);
  EXPECT_TRUE(result->already_there);
  EXPECT_EQ(Got(), "mine");
  EXPECT_TRUE(server.requests().empty());
  EXPECT_FALSE(PartThere());
}

TEST_F(DownloadTest, CutConnectionsAreResumed) {
  HttpServerForTest server([&](const HttpRequest& r, int number) {
    CannedResponse response = HttpServerForTest::Serve(r, content_, "\"v1\"");
    if (number < 3) response.cut_after = 50000;
    return response;
  });
  std::vector<std::string> notices;
  DownloadHooks hooks;
  hooks.notice = [&](const std::string& what) { notices.push_back(what); };
  const auto result = Download(Request(server), hooks);
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(Got(), content_);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_FALSE(requests[0].has("range"));
  EXPECT_EQ(requests[1].range_begin(), 50000u);
  EXPECT_EQ(requests[2].range_begin(), 100000u);
  EXPECT_EQ(requests[1].headers.at("if-range"), "\"v1\"");
  EXPECT_THAT(notices.front(), HasSubstr("trying again"));
}

TEST_F(DownloadTest, GoesOnAfterAnEarlierRun) {
  std::atomic<bool> stop{true};
  HttpServerForTest server([&](const HttpRequest& r, int) {
    CannedResponse response = HttpServerForTest::Serve(r, content_, "\"v1\"");
    if (stop) response.cut_after = 120000;
    return response;
  });
  DownloadHooks hooks;
  hooks.progress = [&](int64_t done, int64_t) { return !stop || done < 120000; };  // Ctrl-C after so much
  const auto first = Download(Request(server), hooks);
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(PartThere());
  EXPECT_FALSE(fs::exists(folder_ / "model.gguf"));
  stop = false;
  const auto second = Download(Request(server), hooks);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->resumed_from, 120000);
  EXPECT_EQ(Got(), content_);
}

TEST_F(DownloadTest, ServerWithoutRangesStartsOver) {
  HttpServerForTest server([&](const HttpRequest&, int number) {
    CannedResponse response;
    response.body = content_;
    if (number == 0) response.cut_after = 99999;
    return response;
  });
  const auto result = Download(Request(server), {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(Got(), content_);
}

TEST_F(DownloadTest, ChangedFileStartsOver) {
  const std::string old(300000, 'x');
  HttpServerForTest server([&](const HttpRequest& r, int number) {
    CannedResponse response = number == 0 ? HttpServerForTest::Serve(r, old, "\"v1\"")
                                        : HttpServerForTest::Serve(r, content_, "\"v2\"");
    if (number == 0) response.cut_after = 150000;
    return response;
  });
  const auto result = Download(Request(server), {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(Got(), content_);
}

// A part file from something else, resumed without an ETag to notice by: the checksum notices, one clean try follows.
TEST_F(DownloadTest, WrongPartFileIsFoundByChecksumAndReplaced) {
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, ""); });
  TempFolder::Write(folder_ / "model.gguf.part", std::string(1000, 'z'));
  TempFolder::Write(folder_ / "model.gguf.part.json", "{\"url\":\"" + server.url("/file") + "\",\"etag\":\"\"}");
  const auto result = Download(Request(server), {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(Got(), content_);
  EXPECT_EQ(server.requests().size(), 2u);
}

TEST_F(DownloadTest, PartOfAnotherUrlIsNotUsed) {
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, "\"v1\""); });
  TempFolder::Write(folder_ / "model.gguf.part", content_.substr(0, 1000));
  TempFolder::Write(folder_ / "model.gguf.part.json", "{\"url\":\"http://elsewhere/\",\"etag\":\"\\\"v1\\\"\"}");
  ASSERT_TRUE(Download(Request(server), {}));
  EXPECT_FALSE(server.requests().front().has("range"));
}

TEST_F(DownloadTest, WholePartFileNeedsOnlyChecking) {
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, "\"v1\""); });
  TempFolder::Write(folder_ / "model.gguf.part", content_);
  TempFolder::Write(folder_ / "model.gguf.part.json",
                    "{\"url\":\"" + server.url("/file") + "\",\"etag\":\"\\\"v1\\\"\"}");
  const auto result = Download(Request(server), {});  // answered 416
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(Got(), content_);
}

TEST_F(DownloadTest, WrongChecksumLeavesNothing) {
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, "\"v1\""); });
  DownloadRequest request = Request(server);
  request.sha256 = std::string(64, '0');
  const auto result = Download(request, {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(result.error().message, HasSubstr("SHA-256"));
  EXPECT_FALSE(PartThere());
  EXPECT_FALSE(NoteThere());
  EXPECT_FALSE(fs::exists(folder_ / "model.gguf"));
}

TEST_F(DownloadTest, WrongLengthIsRefused) {
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, "\"v1\""); });
  DownloadRequest request = Request(server);
  request.bytes = 299999;
  const auto result = Download(request, {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kCorrupt);
  EXPECT_FALSE(fs::exists(folder_ / "model.gguf"));
}

TEST_F(DownloadTest, DeclaredLengthThatNeverComesGivesUp) {
  HttpServerForTest server([&](const HttpRequest&, int) {
    CannedResponse response;
    response.declared_length = 400000;  // and then only 300000, each time from the start
    response.body = content_;
    return response;
  });
  DownloadRequest request = Request(server);
  request.retries = 2;
  int tries = 0;
  DownloadHooks hooks;
  hooks.notice = [&](const std::string&) { ++tries; };
  hooks.progress = [&](int64_t, int64_t) { return tries < 20; };
  const auto result = Download(request, hooks);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
}

TEST_F(DownloadTest, NotFoundIsFinal) {
  HttpServerForTest server(
      [&](const HttpRequest&, int) { return CannedResponse{.status = 404, .headers = {}, .body = "no"}; });
  const auto result = Download(Request(server), {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(server.requests().size(), 1u);
  EXPECT_FALSE(PartThere());
}

TEST_F(DownloadTest, RefusedSaysHowToLogIn) {
  HttpServerForTest server(
      [&](const HttpRequest&, int) { return CannedResponse{.status = 401, .headers = {}, .body = ""}; });
  const auto result = Download(Request(server), {});
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message, HasSubstr("HF_TOKEN"));
}

TEST_F(DownloadTest, ServerErrorsAreRetriedThenGivenUp) {
  HttpServerForTest server([&](const HttpRequest& r, int number) {
    if (number == 0) return CannedResponse{.status = 500, .headers = {}, .body = "oops"};
    if (number == 1) return CannedResponse{.status = 503, .headers = {}, .body = ""};
    return HttpServerForTest::Serve(r, content_, "\"v1\"");
  });
  ASSERT_TRUE(Download(Request(server), {}));
  EXPECT_EQ(Got(), content_);

  HttpServerForTest broken(
      [&](const HttpRequest&, int) { return CannedResponse{.status = 500, .headers = {}, .body = "x"}; });
  DownloadRequest request = Request(broken);
  request.destination = folder_ / "other.gguf";
  request.retries = 3;
  const auto result = Download(request, {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  EXPECT_THAT(result.error().message, HasSubstr("500"));
  EXPECT_EQ(broken.requests().size(), 4u);
}

TEST_F(DownloadTest, NobodyListening) {
  DownloadRequest request;
  {
    HttpServerForTest server([&](const HttpRequest&, int) { return CannedResponse{}; });
    request = Request(server);
  }
  request.retries = 1;
  const auto result = Download(request, {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
}

TEST_F(DownloadTest, RedirectIsFollowedAndItsHashUsed) {
  HttpServerForTest server([&](const HttpRequest& r, int) {
    if (r.path == "/file") {
      return CannedResponse{.status = 302,
                          .headers = {"Location: /elsewhere", "X-Linked-Etag: \"" + HashOf(content_) + "\""},
                          .body = ""};
    }
    return HttpServerForTest::Serve(r, content_, "\"v1\"");
  });
  DownloadRequest request = Request(server);
  request.sha256.clear();
  const auto result = Download(request, {});
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_TRUE(result->verified);

  HttpServerForTest lying([&](const HttpRequest& r, int) {
    if (r.path == "/file") {
      return CannedResponse{.status = 302,
                          .headers = {"Location: /elsewhere", "X-Linked-Etag: \"" + std::string(64, 'a') + "\""},
                          .body = ""};
    }
    return HttpServerForTest::Serve(r, content_, "\"v1\"");
  });
  request.url = lying.url("/file");
  request.destination = folder_ / "second.gguf";
  EXPECT_FALSE(Download(request, {}));
}

TEST_F(DownloadTest, WithoutAnyChecksumItSaysUnverified) {
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, "\"v1\""); });
  DownloadRequest request = Request(server);
  request.sha256.clear();
  const auto result = Download(request, {});
  ASSERT_TRUE(result);
  EXPECT_FALSE(result->verified);
  EXPECT_EQ(result->sha256, HashOf(content_));
}

TEST_F(DownloadTest, TokenIsSent) {
  HttpServerForTest server([&](const HttpRequest& r, int) { return HttpServerForTest::Serve(r, content_, "\"v1\""); });
  DownloadRequest request = Request(server);
  request.bearer = "secret";
  ASSERT_TRUE(Download(request, {}));
  EXPECT_EQ(server.requests().front().headers.at("authorization"), "Bearer secret");
}

TEST_F(DownloadTest, TooLargeForTheDisk) {
  HttpServerForTest server([&](const HttpRequest&, int) {
    CannedResponse response;
    response.body = "start";
    response.declared_length = (1LL << 60);
    return response;
  });
  DownloadRequest request = Request(server);
  request.sha256.clear();
  const auto result = Download(request, {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kResource);
  EXPECT_FALSE(PartThere());
}

TEST_F(DownloadTest, TwoAtOnceShareOneDownload) {
  HttpServerForTest server([&](const HttpRequest& r, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    return HttpServerForTest::Serve(r, content_, "\"v1\"");
  });
  const DownloadRequest request = Request(server);
  Result<DownloadResult> first = Fail(ErrorCode::kInternal, "not run"), second = Fail(ErrorCode::kInternal, "not run");
  std::thread one([&] { first = Download(request, {}); });
  std::thread two([&] { second = Download(request, {}); });
  one.join(), two.join();
  ASSERT_TRUE(first) << first.error().message;
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_NE(first->already_there, second->already_there);
  EXPECT_EQ(server.requests().size(), 1u);
  EXPECT_EQ(Got(), content_);
  EXPECT_FALSE(PartThere());
}

TEST_F(DownloadTest, FetchTextIsBounded) {
  HttpServerForTest server([&](const HttpRequest& r, int number) {
    if (r.path == "/flaky" && number == 0) return CannedResponse{.status = 503, .headers = {}, .body = ""};
    return CannedResponse{.status = 200, .headers = {}, .body = "hello"};
  });
  const auto text = FetchText(server.url("/flaky"), "", 100, 2, std::chrono::milliseconds(1), {});
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(*text, "hello");
  const auto long_text = FetchText(server.url("/x"), "", 3, 0, std::chrono::milliseconds(1), {});
  ASSERT_FALSE(long_text);
  EXPECT_EQ(long_text.error().code, ErrorCode::kCorrupt);
}

TEST(Sha256Test, KnownValues) {
  EXPECT_EQ(HashOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-4
  EXPECT_EQ(NormalSha256(std::string(64, 'A')), std::string(64, 'a'));
  EXPECT_EQ(NormalSha256(std::string(63, 'a')), "");
  EXPECT_EQ(NormalSha256(std::string(64, 'g')), "");
}

}  // namespace
}  // namespace fathom
