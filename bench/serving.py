#!/usr/bin/env python3
"""What never computing the same prefix twice is worth: `fathom serve` against itself without a cache, and against
llama-server on the same weights, in one run.

    python3 bench/serving.py restart   --fathom build/release/fathom -m v2-lite.gguf -o out.jsonl
    python3 bench/serving.py documents --fathom build/release/fathom -m v2-lite.gguf -o out.jsonl
    python3 bench/serving.py turns | overhead | throttled | streams   (the same options)
    python3 bench/serving.py table out.jsonl        the results so far as Markdown
    python3 bench/serving.py plot out.jsonl --images docs/images        and as pictures (SVG)

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
        queued = [line for line in text.splitlines() if line.startswith("fathom_cache_disk_queued_writes ")]
        if queued and float(queued[0].split()[-1]) == 0:
            return
        time.sleep(0.2)
    raise SystemExit("the server still writes")


def drop_page_cache():
    """Everything but what is mapped and in use; says whether it could."""
    try:
        subprocess.run(["sync"], check=True)
        with open("/proc/sys/vm/drop_caches", "w") as control:
            control.write("1\n")
        return True
    except OSError:
        return False


def read_through(path):
    """Brings a file into the page cache."""
    with open(path, "rb", buffering=0) as file:
        while file.read(16 << 20):
            pass


def restart(args, results):
    """Time to first token: cold, known in memory, known on the SSD after a restart with the page cache dropped (the weights
    read back first; and as it comes, the weights cold as well); with 16 new tokens behind; 80 % and 50 % of the prompt."""
    for length in args.lengths:
        if results.has(f"{length}"):
            continue
        folder = fresh(os.path.join(args.scratch, "kv"))
        prompt = ids(args, length, length)
        variants = {share: prompt[:length * share // 100] + ids(args, length - length * share // 100, length + share)
                    for share in (80, 50)}
        read_through(args.model)
        server = Server(args, folder)
        server.ask(ids(args, 64, 1))  # wakes the weights
        cold = server.ask(prompt)
        memory = [server.ask(prompt) for _ in range(3)]
        memory16 = server.ask(prompt + ids(args, 16, length + 1))
        settle(server)
        server.stop()
        dropped = drop_page_cache()
        server = Server(args, folder)
        bare = server.ask(prompt)  # nothing but this: the weights are still on their way
        server.stop()
        disk = []
        for _ in range(3):
            drop_page_cache()
            server = Server(args, folder)
            read_through(args.model)
            time.sleep(args.rest)  # a virtual disk that has just given 10 GB owes its other guests for a while
            server.ask(ids(args, 64, 2))
            disk.append(server.ask(prompt))
            server.stop()
        server = Server(args, folder)
        server.ask(ids(args, 64, 4))
        disk16 = server.ask(prompt + ids(args, 16, length + 2))
        partial = {share: server.ask(tokens) for share, tokens in variants.items() if not args.no_partial}
        server.stop()
        assert all(d["text"] == cold["text"] for d in [*disk, *memory, bare]), "the answers differ"
        best = min(m["ttft"] for m in memory)
        loaded = statistics.median(d["ttft"] for d in disk)
        results.add(f"{length}", cold=cold["ttft"], memory=best, disk=loaded, disk_cold_weights=bare["ttft"],
                    memory_share=best / cold["ttft"], disk_share=loaded / cold["ttft"],
                    disk_cold_weights_share=bare["ttft"] / cold["ttft"], disk_cached=disk[0]["cached"],
                    page_cache_dropped=dropped, memory_16=memory16["ttft"], disk_16=disk16["ttft"],
                    disk_16_share=disk16["ttft"] / cold["ttft"],
                    **{f"share_{share}": answer["ttft"] / cold["ttft"] for share, answer in partial.items()})
    if args.llama_server:
        for length in args.peer_lengths:
            if results.has(f"{length} llama-server"):
                continue
            server = Server(args, peer=True)
            server.ask(ids(args, 64, 1))
            prompt = ids(args, length, length)
            cold, memory = server.ask(prompt), server.ask(prompt)
            memory16 = server.ask(prompt + ids(args, 16, length + 1))
            server.stop()
            results.add(f"{length} llama-server", cold=cold["ttft"], memory=memory["ttft"], memory_16=memory16["ttft"],
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
    folder = os.path.join(args.scratch, "kv-documents")
    read_through(args.model)
    for tokens in args.answers:
        if not results.has(f"none {tokens}"):
            server = Server(args, extra=["--no-cache"])
            server.ask(ids(args, 64, 1))
            sample = [requests[i] for i in range(args.sample)]
            seconds, _ = run_requests(server, sample, tokens, 1)
            server.stop()
            results.add(f"none {tokens}", requests=len(sample), seconds=seconds, rate=len(sample) / seconds)
        # From scratch once, with the first length of answers; what it leaves is what the others know.
        if tokens == args.answers[0] and not args.known_only and not results.has(f"scratch {tokens}"):
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
            read_through(args.model)
            server.ask(ids(args, 64, 2))
            # Other questions than before: only the documents are known.
            asked = [papers[d] + ids(args, 32, 900000 + tokens * 10000 + i) for i, d in enumerate(order)]
            asked = asked[:max(args.least, args.most_tokens // tokens)]
            seconds, answers = run_requests(server, asked, tokens, args.clients)
            server.stop()
            hits = sum(a["cached"] for a in answers) / sum(a["usage"]["prompt_tokens"] for a in answers)
            ttft = sorted(a["ttft"] for a in answers)
            results.add(f"known {tokens}", requests=len(asked), seconds=seconds, rate=len(asked) / seconds, hits=hits,
                        ttft_p50=ttft[len(ttft) // 2], ttft_p99=ttft[len(ttft) * 99 // 100])
            none = results.known["documents", f"none {tokens}"]["rate"]
            results.add(f"times {tokens}", known=len(asked) / seconds / none,
                        scratch=results.known["documents", f"scratch {tokens}"]["rate"] / none
                        if results.has(f"scratch {tokens}") else None)


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


class Throttle:
    """A control group whose disk is held to so many bytes a second; cgroup v2 (io.max) or v1 (blkio). Needs root."""

    def __init__(self, folder, rate):
        device = os.stat(folder).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        # A partition has no limits of its own: its disk has.
        disk = os.path.realpath(f"/sys/dev/block/{number}")
        if os.path.exists(os.path.join(disk, "partition")):
            number = open(os.path.join(os.path.dirname(disk), "dev"), encoding="ascii").read().strip()
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            self.group = "/sys/fs/cgroup/fathom-bench"
            self.write("/sys/fs/cgroup/cgroup.subtree_control", "+io")
            os.makedirs(self.group, exist_ok=True)
            self.write(f"{self.group}/io.max", f"{number} rbps={rate} wbps={rate}")
        else:
            self.group = "/sys/fs/cgroup/blkio/fathom-bench"
            os.makedirs(self.group, exist_ok=True)
            for which in ("read", "write"):
                self.write(f"{self.group}/blkio.throttle.{which}_bps_device", f"{number} {rate}")

    @staticmethod
    def write(path, text):
        with open(path, "w", encoding="ascii") as control:
            control.write(text)

    def take(self, process):
        self.move(process, self.group)

    def free(self, process):
        self.move(process, os.path.dirname(self.group))

    def move(self, process, group):
        self.write(f"{group}/cgroup.procs", str(process.pid))  # all its threads


def throttled(args, results):
    """The disk held to --throttle bytes a second (control groups, needs root; skipped elsewhere): known prompts and unknown
    ones against computing them. The first request finds out how slow the disk is, so it is reported by itself."""
    folder = fresh(os.path.join(args.scratch, "kv-throttled"))
    try:
        throttle = Throttle(folder, args.throttle)
    except OSError as error:
        print(f"throttled: skipped, no disk limits here ({error})", file=sys.stderr)
        return
    read_through(args.model)
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
        # Like with like: unknown prompts in turns, with the disk free and held back.
        free, held = [], []
        for i in range(3):
            throttle.free(server.process)
            free.append(server.ask(ids(args, length, 2 * length + i))["ttft"])
            settle(server)
            throttle.take(server.process)
            if i == 0:
                known = server.ask(prompt)
            held.append(server.ask(ids(args, length, 3 * length + i))["ttft"])
            settle(server)
        server.stop()
        results.add(f"{length}", cold=cold, known=known["ttft"], cached=known["cached"], known_ratio=known["ttft"] / cold,
                    unknown_free=statistics.median(free), unknown_held=statistics.median(held),
                    unknown_ratio=statistics.median(held) / statistics.median(free))


def prefill_for(server, prompt, seconds):
    """A prompt that comes in beside others, given up after so many seconds; the seconds it took."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=seconds)
    begin = time.perf_counter()
    try:
        connection.request("POST", "/v1/completions", json.dumps({"prompt": prompt, "max_tokens": 1, "model": "any"}),
                           {"Content-Type": "application/json"})
        connection.getresponse().read()
    except OSError:
        pass  # a timeout: closing cancels the request
    connection.close()
    return time.perf_counter() - begin


def percentile(numbers, share):
    ordered = sorted(numbers)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def streams(args, results):
    """Eight streams together: tokens a second; and their inter-token times while another prompt of 16K tokens comes in.
    Both ends of that prompt are looked at for --busy-seconds: its beginning, and its last quarter with the rest known."""
    for peer in ([False, True] if args.llama_server else [False]):
        name = "llama-server" if peer else "fathom"
        if results.has(name):
            continue
        server = Server(args, peer=peer, ram="8GiB")
        server.ask(ids(args, 64, 1))
        long_prompt = ids(args, min(args.peer_long_prompt, args.context - 64) if peer else args.long_prompt, 99)
        if not peer:
            server.ask(long_prompt[:args.long_prompt * 3 // 4])
        prompts = [ids(args, 128, 10 + i) for i in range(8)]
        for p in prompts:
            server.ask(p, 1)
        seconds, answers = run_requests(server, prompts, args.stream_tokens, 8)  # the prompts are known: decoding alone
        tokens = sum(a["usage"]["completion_tokens"] for a in answers)
        idle = [b - a for x in answers for a, b in zip(x["times"], x["times"][1:])]
        gaps = []

        def stream(prompt):
            last = [None]

            def note(now):
                if last[0] is not None:
                    gaps.append((time.perf_counter(), now - last[0]))
                last[0] = now

            # Long enough to outlast the long prompt; the server is stopped when that is through.
            try:
                server.ask(prompt, args.context - 256, on_token=note)
            except (OSError, http.client.HTTPException, ValueError):
                pass

        threads = [threading.Thread(target=stream, args=(p,)) for p in prompts]
        for thread in threads:
            thread.start()
        time.sleep(2)
        numbers = {}
        for part, prompt in ([("", long_prompt)] if peer else
                             [("", ids(args, args.long_prompt, 98)), ("_deep", long_prompt)]):
            gaps.clear()
            begin = time.perf_counter()
            numbers["busy_seconds" + part] = prefill_for(server, prompt, args.busy_seconds)
            busy = [gap for _, gap in gaps]
            if not busy:
                continue
            numbers["busy_p50" + part] = percentile(busy, 0.5)
            numbers["busy_p99" + part] = percentile(busy, 0.99)
            numbers["busy_gaps" + part] = len(busy)
            numbers["busy_over_idle" + part] = percentile(busy, 0.99) / percentile(idle, 0.99)
            # When the longest came: the first seconds are those in which the server learns what a row costs.
            numbers["longest" + part] = [(round(when - begin, 1), round(gap, 3))
                                         for when, gap in sorted(gaps, key=lambda pair: -pair[1])[:24:8]]
            time.sleep(5)
        server.stop(kill=True)  # nobody waits for those streams' ends
        for thread in threads:
            thread.join()
        results.add(name, tokens_per_second=tokens / seconds, idle_p50=percentile(idle, 0.5), idle_p99=percentile(idle, 0.99),
                    **numbers)


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


def bars(path, title, unit, rows, log=False):
    """One bar a row: (label, value, note)."""
    import math
    from xml.sax.saxutils import escape
    height, left, width = 26, 240, 420
    top = max(value for _, value, _ in rows)
    low = min(value for _, value, _ in rows) / 2 if log else 0

    def length(value):
        return width * (math.log(value / low) / math.log(top / low) if log else value / top)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 190}" height="{60 + height * len(rows)}" '
           'font-family="sans-serif" font-size="13">',
           '<rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="12" y="24" font-size="15" font-weight="bold" fill="#222">{escape(title)}</text>']
    for i, (label, value, note) in enumerate(rows):
        y = 42 + i * height
        out.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end" fill="#222">{escape(label)}</text>'
                   f'<rect x="{left}" y="{y + 3}" width="{max(1.0, length(value)):.1f}" height="{height - 8}" '
                   f'fill="{"#b0b7c3" if note == "base" else "#2b6cb0"}"/>'
                   f'<text x="{left + max(1.0, length(value)) + 6:.1f}" y="{y + 16}" fill="#444">{value:.3g} {escape(unit)}'
                   f'{"" if note in ("", "base") else " (" + escape(note) + ")"}</text>')
    if log:
        out.append(f'<text x="{left}" y="{54 + height * len(rows)}" fill="#888" font-size="11">logarithmic</text>')
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n</svg>\n")
    print(path)


def plot(path, images):
    """The pictures of docs/performance.md from what was measured so far."""
    os.makedirs(images, exist_ok=True)
    known = Results(path, "").known
    rows = []
    for (scenario, key), row in known.items():
        if scenario == "restart" and key.isdigit():
            rows += [(f"{key} tokens, computed", row["cold"], "base"),
                     ("on the SSD, all else cold too", row["disk_cold_weights"], f"{row['disk_cold_weights_share']:.2%}"),
                     ("known, in memory", row["memory"], f"{row['memory_share']:.3%}")]
    if rows:
        bars(os.path.join(images, "restart.svg"), "Time to the first token", "s", rows, log=True)
    words = {"none": "no cache", "scratch": "from scratch", "known": "known"}
    rows = [(f"{key.split()[1]}-token answers, {words.get(key.split()[0])}", row["rate"], "base" if key.startswith("none") else "")
            for (scenario, key), row in known.items() if scenario == "documents" and "rate" in row]
    if rows:
        bars(os.path.join(images, "documents.svg"), "Questions about 20 documents of 4,096 tokens", "answers/s", rows, log=True)
    rows = [(key, row["ttft_mean"], f"hits {row['hits']:.0%}") for (scenario, key), row in known.items()
            if scenario == "turns"]
    if rows:
        bars(os.path.join(images, "turns.svg"), "Conversations: mean time to the first token", "s", rows)
    rows = [(key, row["tokens_per_second"], "base" if key == "llama-server" else "") for (scenario, key), row in known.items()
            if scenario == "streams"]
    if rows:
        bars(os.path.join(images, "streams.svg"), "Eight streams together", "tokens/s", rows)


SCENARIOS = {f.__name__: f for f in (restart, documents, turns, overhead, throttled, streams)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=[*SCENARIOS, "table", "plot"])
    parser.add_argument("results", nargs="?", help="of table and plot")
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
    parser.add_argument("--known-only", action="store_true", help="of documents: what an earlier run left in --scratch")
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
    parser.add_argument("--no-partial", action="store_true", help="of restart: without the partly known prompts")
    parser.add_argument("--rest", type=float, default=15, help="seconds of rest for the disk after the weights were read")
    parser.add_argument("--images", default="docs/images", help="folder for the pictures of plot")
    parser.add_argument("--peer-lengths", type=int, nargs="+", default=[4096], help="of the peer, which takes minutes each")
    parser.add_argument("--busy-seconds", type=float, default=120, help="of looking at streams beside a long prompt")
    parser.add_argument("--peer-long-prompt", type=int, default=2048, help="of the peer in streams")
    parser.add_argument("--most-tokens", type=int, default=16000, help="of known documents' answers together...")
    parser.add_argument("--least", type=int, default=100, help="...but at least so many questions")
    args = parser.parse_args()
    if args.scenario == "plot":
        return plot(args.results or args.output, args.images)
    if args.scenario == "table":
        return table(args.results or args.output)
    if not args.fathom or not args.model:
        parser.error("--fathom and -m are needed")
    os.makedirs(args.scratch, exist_ok=True)
    SCENARIOS[args.scenario](args, Results(args.output, args.scenario))


if __name__ == "__main__":
    main()
