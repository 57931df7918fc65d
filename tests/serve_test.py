#!/usr/bin/env python3
"""`fathom serve` as its clients meet it: the real program, a tiny synthesised model, plain HTTP from the standard library.

Usage: serve_test.py FATHOM SOURCE_DIR [unittest arguments]. Nothing is downloaded.
"""
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

FATHOM = SOURCE = None


class Serve:
    """A server process; its port and what it says."""

    def __init__(self, folder, model, *args, env=None):
        clean = {k: v for k, v in os.environ.items() if k not in ("FATHOM_MODEL", "FATHOM_LOG")}
        clean.update(XDG_CACHE_HOME=folder, XDG_DATA_HOME=folder, FATHOM_LOG="info", **(env or {}))
        self.log = open(os.path.join(folder, f"log-{time.monotonic_ns()}"), "w+")
        self.process = subprocess.Popen([FATHOM, "serve", "-m", model, "--port", "0", *args], stdout=subprocess.PIPE,
                                        stderr=self.log, text=True, env=clean)
        self.first_line = self.process.stdout.readline()
        found = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+)\n", self.first_line)
        if not found:
            self.process.kill()
            raise AssertionError(f"said {self.first_line!r}: {self.said()}")
        self.port = int(found[1])

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def request(self, method, path, body=None, **headers):
        """(status, headers, body as bytes)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            data = json.dumps(body) if isinstance(body, (dict, list)) else body
            headers = {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request(method, path, data, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def post(self, path, body, status=200, **headers):
        got, _, data = self.request("POST", path, body, **headers)
        assert got == status, (got, data)
        return json.loads(data)

    def chat(self, words, status=200, **fields):
        return self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": words}], **fields}, status)

    def stop(self, how=signal.SIGTERM, wait=60):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(wait)
        finally:
            self.process.stdout.close()
            self.log.close()


def events(data):
    return [json.loads(line[6:]) for line in data.decode().split("\n\n") if line.startswith("data: {")]


class ServeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="fathom-serve-")
        cls.model = os.path.join(cls.folder, "tiny-model.gguf")
        subprocess.run([FATHOM, "synth", "--config", "tiny", "--seed", "1", "-o", cls.model], check=True,
                       capture_output=True)
        cls.server = Serve(cls.folder, cls.model, "--price-miss", "1", "--price-output", "2")

    @classmethod
    def tearDownClass(cls):
        status = cls.server.stop()
        shutil.rmtree(cls.folder, ignore_errors=True)
        assert status == 0, status

    def test_health_models_and_the_page(self):
        status, _, body = self.server.request("GET", "/health")
        self.assertEqual((status, json.loads(body)["status"]), (200, "ok"))
        models = json.loads(self.server.request("GET", "/v1/models")[2])["data"]
        self.assertEqual([m["id"] for m in models], ["tiny-model"])
        self.assertEqual(self.server.request("GET", "/v1/models/tiny-model")[0], 200)
        self.assertEqual(self.server.request("GET", "/v1/models/other")[0], 404)
        status, headers, body = self.server.request("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
        self.assertTrue(body)

    def test_the_same_words_whole_and_streamed(self):
        fields = {"temperature": 0, "max_tokens": 12}
        whole = self.server.chat("What is deep?", **fields)
        self.assertEqual(whole["model"], "tiny-model")
        usage = whole["usage"]
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertEqual(usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"], usage["prompt_tokens"])
        self.assertGreater(usage["cost"], 0)
        body = {"messages": [{"role": "user", "content": "What is deep?"}], "stream": True,
                "stream_options": {"include_usage": True}, **fields}
        status, headers, data = self.server.request("POST", "/v1/chat/completions", body)
        self.assertEqual(status, 200)
        self.assertIn("text/event-stream", headers["Content-Type"])
        self.assertTrue(data.endswith(b"data: [DONE]\n\n"))
        chunks = events(data)
        said = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
        self.assertEqual(said, whole["choices"][0]["message"]["content"])
        self.assertEqual(chunks[-1]["usage"]["completion_tokens"], usage["completion_tokens"])

    def test_messages_of_anthropic(self):
        body = {"model": "x", "max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": "What is deep?"}]}
        whole = self.server.post("/v1/messages", body)
        self.assertEqual(whole["type"], "message")
        _, _, data = self.server.request("POST", "/v1/messages", {**body, "stream": True})
        names = re.findall(r"^event: (\w+)$", data.decode(), re.M)
        self.assertEqual((names[0], names[-1]), ("message_start", "message_stop"))
        counted = self.server.post("/v1/messages/count_tokens", body)
        self.assertEqual(counted["input_tokens"], whole["usage"]["input_tokens"] + whole["usage"]["cache_read_input_tokens"])
        refused = self.server.post("/v1/messages", {**body, "max_tokens": None}, 400)
        self.assertEqual((refused["type"], refused["error"]["type"]), ("error", "invalid_request_error"))

    def test_many_at_once_are_answered_alike(self):
        alone = [self.server.chat(f"Number {i}?", temperature=0, max_tokens=8)["choices"][0]["message"] for i in range(4)]
        together = [None] * 16

        def ask(i):
            together[i] = self.server.chat(f"Number {i % 4}?", temperature=0, max_tokens=8)["choices"][0]["message"]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(together, [alone[i % 4] for i in range(16)])

    def test_a_client_that_leaves_frees_its_place(self):
        body = json.dumps({"messages": [{"role": "user", "content": "For ever"}], "max_tokens": 100000, "ignore_eos": True,
                           "stream": True}).encode()
        with socket.create_connection(("127.0.0.1", self.server.port)) as client:
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.assertIn(b"200 OK", client.recv(1000))
        for _ in range(100):
            text = self.server.request("GET", "/metrics")[2].decode()
            # The connection ends first, the engine hears of it a moment later.
            if all(re.search(line, text, re.M) for line in (
                    r"^fathom_requests_running 0$", r"^fathom_requests_waiting 0$", r"^fathom_http_streams 0$",
                    r'^fathom_requests_ended_total\{how="cancelled"\} [1-9]')):
                break
            time.sleep(0.05)
        else:
            self.fail("the request still runs, or was not counted as cancelled")

    def test_tokens_there_and_back(self):
        tokens = self.server.post("/tokenize", {"content": "deep water"})["tokens"]
        self.assertEqual(self.server.post("/detokenize", {"tokens": tokens})["content"], "deep water")
        by_ids = self.server.post("/v1/completions", {"prompt": tokens, "max_tokens": 4, "temperature": 0, "echo": True})
        self.assertTrue(by_ids["choices"][0]["text"].startswith("deep water"))

    def test_refusals(self):
        self.assertEqual(self.server.chat("x", 400, tools=[{"type": "function"}])["error"]["param"], "tools")
        self.assertEqual(self.server.chat("x", 400, temperature="hot")["error"]["param"], "temperature")
        self.assertEqual(self.server.post("/v1/embeddings", {"input": "x"}, 501)["error"]["type"], "server_error")
        self.assertEqual(self.server.request("GET", "/v1/models", Host="evil.example")[0], 403)
        self.assertEqual(self.server.request("GET", "/v1/models", Origin="https://evil.example")[0], 403)
        too_long = self.server.chat("word " * 200000, 400)
        self.assertEqual(too_long["error"]["code"], "context_length_exceeded")

    def test_no_prompt_in_the_log(self):
        self.server.chat("xylophonequartz", max_tokens=2)
        self.server.request("GET", "/xylophonequartz?xylophonequartz")
        self.server.request("POST", "/v1/chat/completions", '{"xylophonequartz": ')
        said = self.server.said()
        self.assertIn("/v1/chat/completions 200", said)
        self.assertNotIn("xylophonequartz", said)


class LifeTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fathom-serve-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.model = os.path.join(self.folder, "m.gguf")
        subprocess.run([FATHOM, "synth", "--config", "tiny", "--seed", "1", "-o", self.model], check=True,
                       capture_output=True)

    def run_serve(self, *args):
        return subprocess.run([FATHOM, "serve", *args], capture_output=True, text=True, timeout=120)

    def test_what_keeps_it_from_starting(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = self.run_serve("-m", self.model, "--port", str(port))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(f"port {port} is taken", done.stderr)
        done = self.run_serve("-m", self.model, "--host", "0.0.0.0", "--port", "0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--api-keys", done.stderr)
        done = self.run_serve("-m", self.model, "--cache-ram", "much")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--cache-ram much: not a size", done.stderr)

    def test_a_promise_of_memory(self):
        done = self.run_serve("-m", self.model, "--memory", "1MiB")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, r"1 MiB do not hold this model, which needs at least \d+ MiB")
        done = self.run_serve("-m", self.model, "--memory", "3GiB", "--cache-ram", "0")
        self.assertEqual(done.returncode, 2)
        plain = Serve(self.folder, self.model)
        want = plain.chat("What is deep?", temperature=0, max_tokens=12)["choices"]
        self.assertEqual(plain.stop(), 0)
        server = Serve(self.folder, self.model, "--memory", "3GiB", "--cache-ram", "64MiB")
        self.addCleanup(server.stop)
        self.assertEqual(server.chat("What is deep?", temperature=0, max_tokens=12)["choices"], want)
        text = server.request("GET", "/metrics")[2].decode()
        values = dict(re.findall(r"^fathom_memory_(\w+)_bytes (\S+)$", text, re.M))
        self.assertEqual(float(values["promised"]), 3 << 30)
        self.assertLessEqual(float(values["resident"]), float(values["peak"]))
        self.assertLessEqual(float(values["peak"]), float(values["promised"]))
        self.assertIn("memory 3.0 GiB:", server.said())
        self.assertIn("KV memory 64.0 MiB", server.said())

    def test_a_model_file_that_is_changed_while_it_is_served(self):
        ask = dict(temperature=0, max_tokens=8)
        for how, args in (("cut", []), ("written", []), ("cut", ["--expert-memory", "64MiB"]), ("renamed", [])):
            with self.subTest(how=how, args=args):
                model = os.path.join(self.folder, "mutable.gguf")
                shutil.copy(self.model, model)
                server = Serve(self.folder, model, "--cache-ram", "64MiB", *args)
                want = server.chat("What is deep?", **ask)["choices"]
                if how == "cut":
                    os.truncate(model, os.path.getsize(model) // 2)
                elif how == "written":
                    with open(model, "r+b") as file:
                        file.seek(-64, os.SEEK_END)
                        file.write(b"other bytes")
                else:
                    shutil.copy(self.model, model + ".new")
                    os.rename(model + ".new", model)
                replies = [None] * 6

                def client(i):
                    replies[i] = server.request("POST", "/v1/chat/completions", {
                        "messages": [{"role": "user", "content": f"{i} What is deep and high? " * 20}], **ask})

                clients = [threading.Thread(target=client, args=(i,)) for i in range(len(replies))]
                for thread in clients:
                    thread.start()
                for thread in clients:
                    thread.join()
                for status, headers, body in replies:
                    if how == "renamed":
                        self.assertEqual(status, 200, body)
                        continue
                    self.assertEqual((status, headers["Content-Type"]), (500, "application/json"), body)
                    error = json.loads(body)["error"]
                    self.assertEqual(error["code"], "corrupt_file")
                    self.assertIn("mutable.gguf", error["message"])
                self.assertEqual(server.request("GET", "/health")[0], 200)
                if how == "renamed":
                    self.assertEqual(server.chat("What is deep?", **ask)["choices"], want)
                self.assertEqual(server.stop(), 0)

    def test_keys(self):
        fresh = self.run_serve("--new-api-key", "alice")
        self.assertEqual(fresh.returncode, 0)
        key = fresh.stdout.strip()
        line = fresh.stderr.strip().split("\n")[-1]
        self.assertEqual(line, "alice " + hashlib.sha256(key.encode()).hexdigest())
        keys = os.path.join(self.folder, "keys")
        with open(keys, "w") as file:
            file.write(fresh.stderr)
        server = Serve(self.folder, self.model, "--api-keys", keys)
        self.addCleanup(server.stop)
        self.assertEqual(server.request("GET", "/v1/models")[0], 401)
        self.assertEqual(server.request("GET", "/v1/models", Authorization=f"Bearer {key}")[0], 200)
        self.assertEqual(server.request("GET", "/v1/models", x_api_key=key)[0], 200)
        self.assertEqual(server.request("GET", "/health")[0], 200)

    def test_a_conversation_is_known_after_a_restart_and_can_be_forgotten(self):
        cache = ["--cache-dir", os.path.join(self.folder, "kv"), "--cache-disk", "64MiB", "--cache-ram", "64MiB"]
        words = "The sea is deep and the sky is high. " * 20
        server = Serve(self.folder, self.model, *cache)
        first = server.chat(words, temperature=0, max_tokens=20)
        self.assertEqual(first["usage"]["prompt_cache_hit_tokens"], 0)
        self.assertEqual(server.stop(), 0)

        server = Serve(self.folder, self.model, *cache)
        self.addCleanup(server.stop)
        again = server.chat(words, temperature=0, max_tokens=20)
        prompt = first["usage"]["prompt_tokens"]
        self.assertGreaterEqual(again["usage"]["prompt_cache_hit_tokens"], prompt - 1)
        self.assertGreater(again["timings"]["cache_disk_n"], 0)
        self.assertEqual(again["choices"], first["choices"])
        turns = [{"role": "user", "content": words}, first["choices"][0]["message"], {"role": "user", "content": "And?"}]
        second = server.post("/v1/chat/completions", {"messages": turns, "max_tokens": 4})
        self.assertGreaterEqual(second["usage"]["prompt_cache_hit_tokens"], prompt)

        prompt_body = {"messages": [{"role": "user", "content": words}]}
        self.assertGreaterEqual(server.post("/v1/cache/explain", prompt_body)["known_tokens"], prompt - 1)
        self.assertGreater(server.post("/v1/cache/pin", prompt_body)["blocks"], 0)
        self.assertGreater(json.loads(server.request("GET", "/v1/cache")[2])["pinned_blocks"], 0)
        self.assertGreater(server.post("/v1/cache/unpin", prompt_body)["blocks"], 0)
        self.assertEqual(server.post("/v1/cache/verify", {})["dropped_blocks"], 0)
        self.assertEqual(len(json.loads(server.request("GET", "/v1/cache/ls?limit=2")[2])["data"]), 2)
        self.assertEqual(server.request("GET", "/v1/cache/ls?limit=x")[0], 400)
        text = server.request("GET", "/metrics")[2].decode()
        self.assertRegex(text, r'fathom_cache_hit_tokens_total\{tier="disk"\} [1-9]')
        self.assertGreater(server.post("/v1/cache/forget", {**prompt_body, "everything": True})["erased_blocks"], 0)
        self.assertLess(server.post("/v1/cache/explain", prompt_body)["known_tokens"], 64)

    def test_the_cache_folder_is_its_users_alone(self):
        folder = os.path.join(self.folder, "new", "kv")
        cache = ["--cache-dir", folder, "--cache-disk", "64MiB"]
        before = os.umask(0)
        try:
            server = Serve(self.folder, self.model, *cache)
            server.chat("The sea is deep and the sky is high. " * 20, temperature=0, max_tokens=2)
            self.assertNotIn("others on this machine", server.said())
            self.assertEqual(server.stop(), 0)
        finally:
            os.umask(before)
        found = 0
        for path, _, names in os.walk(os.path.dirname(folder)):
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o700, path)
            for name in names:
                found += 1
                self.assertEqual(os.stat(os.path.join(path, name)).st_mode & 0o777, 0o600, name)
        self.assertGreater(found, 1)

        # One that was open before stays so, and it is said.
        os.chmod(folder, 0o755)
        for name in os.listdir(folder):
            if os.path.isdir(os.path.join(folder, name)):
                os.chmod(os.path.join(folder, name), 0o755)
        server = Serve(self.folder, self.model, *cache)
        self.assertIn(f"warning: {folder}: others on this machine may read", server.said())
        self.assertEqual(server.stop(), 0)
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o755)

    def make_keys(self, *lines):
        """A file of keys, and the keys by name."""
        path, keys = os.path.join(self.folder, "keys"), {}
        with open(path, "w") as file:
            for line in lines:
                fresh = self.run_serve("--new-api-key", line.split()[0])
                keys[line.split()[0]] = fresh.stdout.strip()
                rest = " ".join(line.split()[1:])
                file.write(fresh.stderr.strip().split("\n")[-1] + (f" {rest}" if rest else "") + "\n")
        return path, keys

    def test_a_tenant_at_its_limits_loses_its_own(self):
        path, keys = self.make_keys("alice", "alice2 alice", "bob", "carol", "root admin")
        tenants = os.path.join(self.folder, "tenants.toml")

        def write(text):
            with open(tenants, "w") as file:
                file.write(text)

        cache = ["--cache-dir", os.path.join(self.folder, "kv"), "--cache-disk", "64MiB", "--cache-ram", "64MiB",
                 "--api-keys", path]

        def ask(server, who, number, status=200):
            body = {"messages": [{"role": "user", "content": f"Number {number}. " + "The sea is deep. " * 40}],
                    "max_tokens": 2, "temperature": 0}
            return server.post("/v1/chat/completions", body, status, x_api_key=keys[who])

        def known(server, who, number):
            body = {"messages": [{"role": "user", "content": f"Number {number}. " + "The sea is deep. " * 40}]}
            return server.post("/v1/cache/explain", body, x_api_key=keys[who])["known_tokens"]

        def stat(server):
            return json.loads(server.request("GET", "/v1/cache", x_api_key=keys["root"])[2])

        def blocks(server, root=None):
            """(in memory, on disk) by tenant's root."""
            counts = {}
            for block in json.loads(server.request("GET", "/v1/cache/ls?limit=10000", x_api_key=keys["root"])[2])["data"]:
                memory, disk = counts.get(block["root"], (0, 0))
                counts[block["root"]] = (memory + block["memory"], disk + block["disk"])
            return counts

        def settle(server):
            """Until nothing has been written for a while."""
            last, since, begun = None, time.monotonic(), time.monotonic()
            while time.monotonic() - since < 1:
                self.assertLess(time.monotonic() - begun, 60)
                now = (blocks(server), stat(server)["disk"]["writes"])
                if now != last or not now[1]:
                    last, since = now, time.monotonic()
                time.sleep(0.05)

        # How large a block is, and a prompt.
        server = Serve(self.folder, self.model, *cache)
        ask(server, "bob", 1)
        block = stat(server)["memory"]
        block_bytes = block["bytes"] // block["blocks"]
        per_prompt = block["blocks"]
        settle(server)
        (bob_root,) = blocks(server)
        self.assertEqual(server.stop(), 0)

        share = 2 * per_prompt
        write("[tenant.alice]\n"
              f"cache_ram = {share * block_bytes}\n"
              f"cache_disk = {share * (block_bytes + 4096)}\n"
              "cache_pinned = \"0\"\n"
              "[tenant.carol]\nrequests_per_minute = 1\n"
              "[tenant.dave]\n")
        server = Serve(self.folder, self.model, *cache, "--tenants", tenants)
        self.addCleanup(lambda: server.stop())
        self.assertIn("no key is of tenant 'dave'", server.said())
        before = blocks(server)[bob_root]
        for number in range(8):
            ask(server, "alice" if number % 2 else "alice2", number)
        settle(server)
        counts = blocks(server)
        self.assertEqual(counts.pop(bob_root), before)
        ((memory, disk),) = counts.values()
        self.assertLessEqual(memory, share)
        self.assertLessEqual(disk, share)
        self.assertGreaterEqual(disk, share - 1 - share // 8)
        # So small a model computes sooner than it loads, and then takes a part only; afterwards memory has all of it.
        prompt = ask(server, "bob", 1)["usage"]
        self.assertGreaterEqual(known(server, "bob", 1), prompt["prompt_tokens"] - 1)
        self.assertGreaterEqual(known(server, "alice", 7), prompt["prompt_tokens"] - 1)
        # Which blocks went is the policy's business; one may have been used again just then.
        self.assertLessEqual(known(server, "alice", 1), prompt["prompt_tokens"] // 2)

        body = {"messages": [{"role": "user", "content": "Number 7. " + "The sea is deep. " * 40}]}
        refused = server.post("/v1/cache/pin", body, 403, x_api_key=keys["alice"])
        self.assertEqual(refused["error"]["code"], "pin_limit_exceeded")
        self.assertEqual(server.post("/v1/cache/pin", body, x_api_key=keys["bob"])["pinned"], True)
        ask(server, "carol", 1)
        self.assertEqual(ask(server, "carol", 2, 429)["error"]["code"], "rate_limit_exceeded")
        ask(server, "bob", 2)

        for text, complaint in [("[tenant.alice]\ncache_ram = \"much\"\n", "line 2: tenant.alice.cache_ram much: not a size"),
                                ("[tenant.alice]\nttl = 3\n", "tenant.alice.ttl is not a key")]:
            write(text)
            done = self.run_serve("-m", self.model, *cache, "--tenants", tenants)
            self.assertEqual(done.returncode, 2)
            self.assertIn(complaint, done.stderr)
        done = self.run_serve("-m", self.model, "--tenants", tenants)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--api-keys", done.stderr)

    def test_every_tenant_may_have_the_same_share(self):
        path, keys = self.make_keys("alice", "bob")
        server = Serve(self.folder, self.model, "--api-keys", path, "--tenant-cache-ram", "0", "--tenant-cache-pinned", "0")
        self.addCleanup(server.stop)
        body = {"messages": [{"role": "user", "content": "The sea is deep. " * 40}], "max_tokens": 2}
        for _ in range(2):
            usage = server.post("/v1/chat/completions", body, x_api_key=keys["alice"])["usage"]
            self.assertEqual(usage["prompt_cache_hit_tokens"], 0)

    def test_a_drain_finishes_what_runs(self):
        server = Serve(self.folder, self.model)
        body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 200, "ignore_eos": True, "stream": True}
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        response = connection.getresponse()
        first = response.read1(100)
        server.process.send_signal(signal.SIGTERM)
        data = first + response.read()
        connection.close()
        self.assertTrue(data.endswith(b"data: [DONE]\n\n"))
        self.assertEqual(server.stop(), 0)

    def test_two_interrupts_end_at_once(self):
        server = Serve(self.folder, self.model, "--drain-seconds", "600")
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "ignore_eos": True, "stream": True})
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            client.recv(100)
            server.process.send_signal(signal.SIGINT)
            for _ in range(200):
                if "shutting down" in server.said():
                    break
                time.sleep(0.02)
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.stop(wait=10), 130)


if __name__ == "__main__":
    FATHOM, SOURCE = os.path.abspath(sys.argv[1]), sys.argv[2]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
