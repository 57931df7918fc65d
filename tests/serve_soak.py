#!/usr/bin/env python3
"""The server under mixed load with a cache that is far too small, killed now and then: every greedy answer must be the
one that a server without a cache gives, errors must be proper ones, and memory must stay flat.

    python3 tests/serve_soak.py build/release/fathom [--minutes 0.5] [--seed 1] [--no-kill]

Works with builds under sanitizers, too; a report of theirs fails the run. Servers listen on loopback.
"""
import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time


class Server:
    def __init__(self, command, log):
        self.log = open(log, "ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if "listening on" not in line:
            self.process.wait()
            sys.exit(f"the server did not start ({line!r}):\n{open(log, errors='replace').read()[-4000:]}")
        self.port = int(line.strip().rstrip("/").rsplit(":", 1)[1])

    def resident(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        return 0

    def post(self, path, body, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        data = body if isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()


class Soak:
    def __init__(self, args):
        self.args = args
        self.folder = tempfile.mkdtemp(prefix="fathom-soak-")
        self.model = os.path.join(self.folder, "tiny.gguf")
        subprocess.run([args.fathom, "synth", "--config", "tiny", "-o", self.model, "--type", "q8_0", "--quiet"], check=True)
        self.log = os.path.join(self.folder, "server.log")
        base = [args.fathom, "serve", "-m", self.model, "--port", "0", "--ctx", "2048", "-t", "2"]
        self.command = base + ["--cache-dir", os.path.join(self.folder, "kv"), "--cache-ram", "6MiB", "--cache-disk",
                               "24MiB", "--max-sequences", "6", "--step-tokens", "128"]
        self.reference = Server(base + ["--no-cache"], os.path.join(self.folder, "reference.log"))
        self.server = Server(self.command, self.log)
        self.lock = threading.Lock()       # around self.server and the counts
        self.known = {}                    # prompt -> reference text
        self.counts = {"answers": 0, "compared": 0, "aborted": 0, "refused": 0, "killed": 0, "cached_tokens": 0,
                       "lost": 0}
        self.failures = []
        generator = random.Random(args.seed)
        trunk = [generator.randrange(300, 4000) for _ in range(1500)]
        self.prompts = []
        for _ in range(24):  # branches of one trunk, and some of their own
            keep = generator.choice([0, 40, 64, 200, 500, 1000])
            own = [generator.randrange(300, 4000) for _ in range(generator.randrange(1, 200))]
            self.prompts.append(trunk[:keep] + own)

    def expected(self, index):
        if index not in self.known:
            status, body = self.reference.post("/v1/completions", {"prompt": self.prompts[index], "max_tokens": 24,
                                                                   "temperature": 0, "ignore_eos": True}, 600)
            assert status == 200, body
            self.known[index] = json.loads(body)["choices"][0]["text"]
        return self.known[index]

    def fail(self, what):
        with self.lock:
            self.failures.append(what)

    def count(self, what, by=1):
        with self.lock:
            self.counts[what] += by

    def good_request(self, generator, server):
        index = generator.randrange(len(self.prompts))
        tokens = generator.choice([1, 4, 16, 24])
        status, body = server.post("/v1/completions", {
            "prompt": self.prompts[index], "max_tokens": tokens, "temperature": 0, "ignore_eos": True,
            "stream": False})
        if status != 200:
            if status not in (429, 503):
                self.fail(f"status {status}: {body[:300]}")
            return
        answer = json.loads(body)
        text = answer["choices"][0]["text"]
        self.count("answers")
        self.count("cached_tokens", answer["usage"].get("prompt_tokens_details", {}).get("cached_tokens", 0))
        if answer["usage"]["completion_tokens"] != tokens:
            self.fail(f"{answer['usage']['completion_tokens']} tokens instead of {tokens}")
        # A text of fewer tokens may end in half a character.
        if not self.known[index].startswith(text.rstrip("\ufffd")):
            self.fail(f"prompt {index}: {text!r} instead of {self.known[index]!r}")
        self.count("compared")

    def aborted_request(self, generator, server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            body = json.dumps({"prompt": self.prompts[generator.randrange(len(self.prompts))], "max_tokens": 500,
                               "stream": True, "ignore_eos": True}).encode()
            client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
            if generator.random() < 0.7:
                client.recv(generator.choice([1, 100, 3000]))
        self.count("aborted")

    def bad_request(self, generator, server):
        body = generator.choice([b"", b"{", b"[]", b"null", b'{"prompt": 3}', b'{"prompt": [1, "x"]}',
                                 b'{"prompt": "a", "max_tokens": "b"}', b'{"prompt": [-1]}', b'{"prompt": [99999999]}',
                                 b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}",
                                 json.dumps({"prompt": [5] * 5000}).encode()])
        status, answer = server.post("/v1/completions", body)
        if not 400 <= status < 500 or b"error" not in answer:
            self.fail(f"{body[:60]!r}: status {status}: {answer[:200]}")
        self.count("refused")

    def client(self, seed, until):
        generator = random.Random(seed)
        while time.time() < until and not self.failures:
            with self.lock:
                server = self.server
            kind = generator.random()
            act = self.good_request if kind < 0.75 else self.aborted_request if kind < 0.9 else self.bad_request
            try:
                act(generator, server)
            except (OSError, http.client.HTTPException):
                if server is self.server and server.process.poll() is not None and server.process.returncode != -9:
                    self.fail(f"the server ended with {server.process.returncode}")
                self.count("lost")
                time.sleep(0.1)

    def run(self):
        for index in range(len(self.prompts)):
            self.expected(index)
        seconds = self.args.minutes * 60
        until = time.time() + seconds
        clients = [threading.Thread(target=self.client, args=(self.args.seed * 1000 + i, until)) for i in range(8)]
        for thread in clients:
            thread.start()
        generator, sizes = random.Random(self.args.seed), []
        next_kill = time.time() + generator.uniform(3, 10)
        while time.time() < until and not self.failures:
            time.sleep(0.5)
            if not self.args.no_kill and time.time() > next_kill:
                with self.lock:
                    self.server.process.send_signal(signal.SIGKILL)
                    self.server.process.wait()
                    self.server = Server(self.command, self.log)
                    self.counts["killed"] += 1
                next_kill = time.time() + generator.uniform(3, 10 + seconds / 20)
                sizes.clear()
            sizes.append(self.server.resident())
        for thread in clients:
            thread.join(120)
        if self.args.no_kill and len(sizes) > 40:
            early, late = max(sizes[len(sizes) // 4:len(sizes) // 2]), max(sizes[-len(sizes) // 4:])
            print(f"resident memory: {early >> 20} MiB in the second quarter, {late >> 20} MiB in the last")
            if late > early * 1.1 + (16 << 20):
                self.failures.append("memory grows")
        status, body = self.server.post("/v1/completions", {"prompt": [300] * 64, "max_tokens": 1})
        if status != 200:
            self.failures.append(f"at the end: {status} {body[:200]}")
        for server in (self.server, self.reference):
            server.process.send_signal(signal.SIGTERM)
            try:
                if server.process.wait(60) != 0:
                    self.failures.append(f"SIGTERM: exit status {server.process.returncode}")
            except subprocess.TimeoutExpired:
                server.process.kill()
                self.failures.append("SIGTERM: still running after a minute")
        log = open(self.log, errors="replace").read()
        if "Sanitizer" in log or "runtime error" in log:
            self.failures.append("a sanitizer's report:\n" + log[-6000:])
        print(json.dumps(self.counts))
        if self.failures:
            print("\n".join(self.failures[:5]))
            print(f"logs are in {self.folder}")
            return 1
        if self.counts["compared"] < 5 or self.counts["cached_tokens"] == 0:
            print("too little happened to say anything")
            return 1
        shutil.rmtree(self.folder, ignore_errors=True)
        print("no wrong answer, no crash")
        return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fathom")
    parser.add_argument("--minutes", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-kill", action="store_true", help="never kill the server; check that memory is flat")
    sys.exit(Soak(parser.parse_args()).run())


if __name__ == "__main__":
    main()
