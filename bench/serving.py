#!/usr/bin/env python3
"""What never computing the same prefix twice is worth: `fathom serve` against itself without a cache, and against
llama-server on the same weights, in one run.

    python3 bench/serving.py restart   --fathom build/release/fathom -m v2-lite.gguf -o out.jsonl
    python3 bench/serving.py documents --fathom build/release/fathom -m v2-lite.gguf -o out.jsonl
    python3 bench/serving.py turns | overhead | throttled | streams   (the same options)
    python3 bench/serving.py table out.jsonl        the results so far as Markdown

`fathom synth v2-lite -o v2-lite.gguf --type q4_k_m` makes a model of that shape with random weights: bytes and hits are
true, words are not. Prompts are random token ids, so lengths are exact. --llama-server PATH adds the peer. Each result is
a line of JSON in -o; a scenario begun again goes on with what is missing. Needs Python 3 and nothing else; servers listen
on loopback.
"""
import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time


class Server:
    """A server process that answers /v1/completions; peer: llama-server."""

    def __init__(self, args, cache_dir=None, ram="4GiB", disk="64GiB", peer=False, extra=()):
        self.peer = peer
        if peer:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            command = [args.llama_server, "-m", args.model, "--port", str(self.port), "-t", str(args.threads), "-c",
                       str(args.context * args.slots), "-np", str(args.slots), "--no-webui", *extra]
        else:
            command = [args.fathom, "serve", "-m", args.model, "--port", "0", "-t", str(args.threads), "--ctx",
                       str(args.context), *extra]
            if cache_dir:
                command += ["--cache-dir", cache_dir, "--cache-ram", ram, "--cache-disk", disk]
            elif "--no-cache" not in extra:
                command += ["--cache-ram", ram]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if peer:
            self.wait_healthy()
        else:
            line = self.process.stdout.readline()
            if "listening on" not in line:
                raise SystemExit(f"the server did not start: {' '.join(command)}\n{line}")
            self.port = int(line.rsplit(":", 1)[1].strip().rstrip("/"))
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def wait_healthy(self):
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.5)
        raise SystemExit("llama-server did not become healthy")

    def ask(self, prompt, tokens=1, on_token=None, **more):
        """One completion, streamed. Times in seconds; usage as the server gives it."""
        body = {"prompt": prompt, "max_tokens": tokens, "stream": True, "temperature": 0, "ignore_eos": True,
                "stream_options": {"include_usage": True}, "model": "any", **more}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=7200)
        start = time.perf_counter()
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != 200:
            raise SystemExit(f"HTTP {answer.status}: {answer.read(2000)}")
        times, text, usage = [], "", {}
        for line in answer:
            if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            if event.get("choices"):
                if not event["choices"][0].get("finish_reason") or not times:
                    times.append(time.perf_counter() - start)
                    if on_token:
                        on_token(times[-1])
                text += event["choices"][0].get("text") or ""
        return {"ttft": times[0] if times else None, "total": time.perf_counter() - start, "times": times, "text": text,
                "usage": usage, "cached": (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)}

    def stop(self, kill=False):
        self.process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        self.process.wait()


class Results:
    def __init__(self, path, scenario):
        self.path, self.scenario, self.known = path, scenario, {}
        if os.path.exists(path):
            for line in open(path, encoding="utf-8"):
                row = json.loads(line)
                self.known[row["scenario"], row["key"]] = row

    def has(self, key):
        return (self.scenario, key) in self.known

    def add(self, key, **values):
        row = {"scenario": self.scenario, "key": key, **values}
        self.known[self.scenario, key] = row
        with open(self.path, "a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def ids(args, count, seed):
    generator = random.Random(seed)
    return [generator.randrange(100, args.vocabulary) for _ in range(count)]


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    return folder


def settle(server, seconds=120):
    """Waits until everything kept is on the device."""
    for _ in range(seconds * 5):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        queued = [line for line in text.splitlines() if line.startswith("fathom_cache_queued_writes")]
        if queued and float(queued[0].split()[-1]) == 0:
            return
        time.sleep(0.2)


def drop_page_cache():
    """Everything but what is mapped and in use; says whether it could."""
    try:
        subprocess.run(["sync"], check=True)
        with open("/proc/sys/vm/drop_caches", "w") as control:
            control.write("1\n")
        return True
    except OSError:
        return False


def restart(args, results):
    """Time to first token: cold, known in memory, known on the SSD after a restart; all, 80 % and 50 % of the prompt."""
    for length in args.lengths:
        if results.has(f"{length}"):
            continue
        folder = fresh(os.path.join(args.scratch, "kv"))
        prompt = ids(args, length, length)
        variants = {share: prompt[:length * share // 100] + ids(args, length - length * share // 100, length + share)
                    for share in (80, 50)}
        server = Server(args, folder)
        server.ask(ids(args, 64, 1))  # wakes the weights
        cold = server.ask(prompt)
        memory = [server.ask(prompt) for _ in range(3)]
        settle(server)
        server.stop()
        dropped = drop_page_cache()
        server = Server(args, folder)
        server.ask(ids(args, 64, 2))  # the weights come back from their own file first
        disk = server.ask(prompt)
        assert disk["text"] == cold["text"] == memory[0]["text"], "the answers differ"
        server.stop()
        server = Server(args, folder)
        server.ask(ids(args, 64, 3))
        partial = {share: server.ask(tokens) for share, tokens in variants.items()}
        server.stop()
        best = min(m["ttft"] for m in memory)
        results.add(f"{length}", cold=cold["ttft"], memory=best, disk=disk["ttft"], memory_share=best / cold["ttft"],
                    disk_share=disk["ttft"] / cold["ttft"], disk_cached=disk["cached"], page_cache_dropped=dropped,
                    share_80=partial[80]["ttft"] / cold["ttft"], share_50=partial[50]["ttft"] / cold["ttft"])
    if args.llama_server:
        for length in args.lengths:
            if results.has(f"{length} llama-server"):
                continue
            server = Server(args, peer=True)
            server.ask(ids(args, 64, 1))
            cold, memory = server.ask(ids(args, length, length)), server.ask(ids(args, length, length))
            server.stop()
            results.add(f"{length} llama-server", cold=cold["ttft"], memory=memory["ttft"],
                        memory_share=memory["ttft"] / cold["ttft"])


def zipf(count, generator):
    weights = [1 / (rank + 1) for rank in range(count)]
    return generator.choices(range(count), weights)[0]


def run_requests(server, requests, tokens, clients):
    """All requests, `clients` at a time, in order of taking. Returns (seconds, answers)."""
    answers, lock, waiting = [], threading.Lock(), list(reversed(requests))

    def client():
        while True:
            with lock:
                if not waiting:
                    return
                prompt = waiting.pop()
            answer = server.ask(prompt, tokens)
            with lock:
                answers.append(answer)

    start = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start, answers


def documents(args, results):
    """Questions about documents, Zipf: requests a second without a cache (a sample), from scratch, known before a restart."""
    generator = random.Random(1)
    papers = [ids(args, args.document_tokens, 1000 + i) for i in range(args.documents)]
    order = [zipf(args.documents, generator) for _ in range(args.documents * args.questions)]
    requests = [papers[d] + ids(args, 32, 5000 + i) for i, d in enumerate(order)]
    for tokens in args.answers:
        if not results.has(f"none {tokens}"):
            server = Server(args, extra=["--no-cache"])
            server.ask(ids(args, 64, 1))
            sample = [requests[i] for i in range(args.sample)]
            seconds, _ = run_requests(server, sample, tokens, 1)
            server.stop()
            results.add(f"none {tokens}", requests=len(sample), seconds=seconds, rate=len(sample) / seconds)
        folder = os.path.join(args.scratch, "kv-documents")
        if not results.has(f"scratch {tokens}"):
            server = Server(args, fresh(folder))
            server.ask(ids(args, 64, 1))
            seconds, answers = run_requests(server, requests, tokens, args.clients)
            settle(server)
            server.stop()
            hits = sum(a["cached"] for a in answers) / sum(a["usage"]["prompt_tokens"] for a in answers)
            results.add(f"scratch {tokens}", requests=len(requests), seconds=seconds, rate=len(requests) / seconds, hits=hits)
        if not results.has(f"known {tokens}"):
            drop_page_cache()
            server = Server(args, folder)
            server.ask(ids(args, 64, 2))
            # Other questions than before: only the documents are known.
            asked = [papers[d] + ids(args, 32, 900000 + tokens * 10000 + i) for i, d in enumerate(order)]
            seconds, answers = run_requests(server, asked, tokens, args.clients)
            server.stop()
            hits = sum(a["cached"] for a in answers) / sum(a["usage"]["prompt_tokens"] for a in answers)
            ttft = sorted(a["ttft"] for a in answers)
            results.add(f"known {tokens}", requests=len(asked), seconds=seconds, rate=len(asked) / seconds, hits=hits,
                        ttft_p50=ttft[len(ttft) // 2], ttft_p99=ttft[len(ttft) * 99 // 100])
            rate = results.known["documents", f"known {tokens}"]["rate"]
            results.add(f"times {tokens}", known=rate / results.known["documents", f"none {tokens}"]["rate"],
                        scratch=results.known["documents", f"scratch {tokens}"]["rate"] /
                        results.known["documents", f"none {tokens}"]["rate"])


def turns(args, results):
    """Conversations whose rows are twice the memory tier: mean time to first token with and without the SSD tier."""
    per_round, rounds, clients = args.turn_tokens, args.rounds, args.turn_clients
    block = args.bytes_per_token
    ram = max(64 << 20, clients * rounds * (per_round + 16) * block // 2)
    for name, folder, memory in (("memory and ssd", os.path.join(args.scratch, "kv-turns"), ram), ("memory only", None, ram)):
        if results.has(name):
            continue
        server = Server(args, fresh(folder) if folder else None, ram=str(ram))
        server.ask(ids(args, 64, 1))
        history = [[] for _ in range(clients)]
        ttft, cached, prompt_tokens = [], 0, 0
        start = time.perf_counter()
        for turn in range(rounds):
            for client in range(clients):
                history[client] = history[client] + ids(args, per_round, turn * 100 + client)
                answer = server.ask(history[client], 16)
                ttft.append(answer["ttft"])
                cached += answer["cached"]
                prompt_tokens += answer["usage"]["prompt_tokens"]
        server.stop()
        results.add(name, ram=memory, seconds=time.perf_counter() - start, ttft_mean=statistics.mean(ttft),
                    hits=cached / prompt_tokens)


def overhead(args, results):
    """Prompts that nobody has seen: with the cache and its SSD tier against without, interleaved."""
    for round_ in range(args.pairs):
        if results.has(f"pair {round_}"):
            continue
        seconds = {}
        for name in ("none", "cache") if round_ % 2 == 0 else ("cache", "none"):
            folder = fresh(os.path.join(args.scratch, "kv-overhead"))
            server = Server(args, folder if name == "cache" else None, extra=["--no-cache"] if name == "none" else [])
            server.ask(ids(args, 64, 1))
            seconds[name] = sum(server.ask(ids(args, args.overhead_tokens, 77 + i))["total"] for i in range(2))
            server.stop()
        results.add(f"pair {round_}", **seconds, ratio=seconds["cache"] / seconds["none"])


def throttled(args, results):
    """The disk held to --throttle bytes a second (cgroup v2 io.max, needs root; skipped elsewhere): known prompts against computing them."""
    group = "/sys/fs/cgroup/fathom-bench"
    folder = fresh(os.path.join(args.scratch, "kv-throttled"))
    device = os.stat(folder).st_dev
    limit = f"{os.major(device)}:{os.minor(device) // 16 * 16} rbps={args.throttle} wbps={args.throttle}"
    try:
        with open("/sys/fs/cgroup/cgroup.subtree_control", "w") as control:
            control.write("+io")
        os.makedirs(group, exist_ok=True)
        with open(f"{group}/io.max", "w") as control:
            control.write(limit)
    except OSError as error:
        print(f"throttled: skipped, no io controller here ({error})", file=sys.stderr)
        return
    for length in args.lengths:
        if results.has(f"{length}"):
            continue
        prompt = ids(args, length, length)
        server = Server(args, folder)
        server.ask(ids(args, 64, 1))
        cold = server.ask(prompt)["ttft"]
        settle(server)
        server.stop()
        server = Server(args, folder)
        server.ask(ids(args, 64, 2))
        with open(f"{group}/cgroup.procs", "w") as control:
            control.write(str(server.process.pid))
        known = server.ask(prompt)
        unknown = server.ask(ids(args, length, length + 1))["ttft"]
        server.stop()
        results.add(f"{length}", cold=cold, known=known["ttft"], unknown=unknown, cached=known["cached"],
                    known_ratio=known["ttft"] / cold, unknown_ratio=unknown / cold)


def streams(args, results):
    """Eight streams together: tokens a second; and their inter-token times while another prompt of 16K comes in."""
    for peer in ([False, True] if args.llama_server else [False]):
        name = "llama-server" if peer else "fathom"
        if results.has(name):
            continue
        server = Server(args, peer=peer, ram="8GiB")
        server.ask(ids(args, 64, 1))
        prompts = [ids(args, 128, 10 + i) for i in range(8)]
        for p in prompts:
            server.ask(p, 1)
        seconds, answers = run_requests(server, prompts, args.stream_tokens, 8)
        tokens = sum(a["usage"]["completion_tokens"] for a in answers)
        idle = sorted(b - a for x in answers for a, b in zip(x["times"], x["times"][1:]))
        gaps, done = [], threading.Event()

        def stream(prompt):
            last = [None]

            def note(now):
                if last[0] is not None and not done.is_set():
                    gaps.append(now - last[0])
                last[0] = now

            server.ask(prompt, args.stream_tokens * 4, on_token=note)

        threads = [threading.Thread(target=stream, args=(p,)) for p in prompts]
        for thread in threads:
            thread.start()
        time.sleep(2)
        gaps.clear()
        begin = time.perf_counter()
        server.ask(ids(args, args.long_prompt, 99))
        long_seconds = time.perf_counter() - begin
        done.set()
        busy = sorted(gaps)
        server.stop()
        for thread in threads:
            thread.join()

        def p99(sorted_gaps):
            return sorted_gaps[len(sorted_gaps) * 99 // 100] if sorted_gaps else None

        results.add(name, tokens_per_second=tokens / seconds, idle_p50=idle[len(idle) // 2], idle_p99=p99(idle),
                    busy_p99=p99(busy), busy_gaps=len(busy), long_prompt_seconds=long_seconds,
                    busy_over_idle=p99(busy) / p99(idle) if busy else None)


def table(path):
    scenario = None
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        columns = [k for k in row if k not in ("scenario", "key")]
        if (row["scenario"], columns) != scenario:
            scenario = (row["scenario"], columns)
            print(f"\n| {row['scenario']} | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1))
        print(f"| {row['key']} | " + " | ".join(
            f"{row[c]:.4g}" if isinstance(row[c], float) else str(row[c]) for c in columns) + " |")


SCENARIOS = {f.__name__: f for f in (restart, documents, turns, overhead, throttled, streams)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=[*SCENARIOS, "table"])
    parser.add_argument("results", nargs="?", help="of table")
    parser.add_argument("--fathom")
    parser.add_argument("-m", "--model")
    parser.add_argument("--llama-server", help="a peer's binary")
    parser.add_argument("-o", "--output", default="serving.jsonl")
    parser.add_argument("--scratch", default="build/serving", help="folder for cache folders, on the SSD to be measured")
    parser.add_argument("-t", "--threads", type=int, default=os.cpu_count())
    parser.add_argument("--context", type=int, default=20480)
    parser.add_argument("--slots", type=int, default=8, help="of llama-server")
    parser.add_argument("--vocabulary", type=int, default=100000)
    parser.add_argument("--lengths", type=int, nargs="+", default=[4096, 8192, 16384])
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--document-tokens", type=int, default=4096)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--answers", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--sample", type=int, default=6, help="requests without a cache, of which the rate is taken")
    parser.add_argument("--turn-tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--turn-clients", type=int, default=20)
    parser.add_argument("--bytes-per-token", type=int, default=31104, help="of a KV row over all layers (V2-Lite's)")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--overhead-tokens", type=int, default=4096)
    parser.add_argument("--throttle", type=int, default=100_000_000, help="bytes a second")
    parser.add_argument("--stream-tokens", type=int, default=64)
    parser.add_argument("--long-prompt", type=int, default=16384)
    args = parser.parse_args()
    if args.scenario == "table":
        return table(args.results or args.output)
    if not args.fathom or not args.model:
        parser.error("--fathom and -m are needed")
    os.makedirs(args.scratch, exist_ok=True)
    SCENARIOS[args.scenario](args, Results(args.output, args.scenario))


if __name__ == "__main__":
    main()
