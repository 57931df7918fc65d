#!/usr/bin/env python3
"""A model that is larger than memory: `fathom bench --memory` beside llama.cpp (mmap) and ik_llama.cpp
(--defer-experts), each under the same memory cgroup, in turn.

    python3 bench/experts.py run --fathom build/release/fathom -m v2lite.gguf --memory 3GiB -o out.jsonl \\
            [--llama PATH/llama-bench] [--ik PATH/llama-bench] [-n 32 | -p 2048] [--rounds 3] [--readahead 128]
    python3 bench/experts.py table out.jsonl         the results so far as Markdown

`fathom synth --config deepseek-v2-lite --type q4_k_m -o v2lite.gguf` makes such a model with random weights. It routes
almost uniformly, or stickily where the tokens are alike: --replay-routing FILE sends fathom's tokens where a recorded
routing went (no peer can do that).

Every run starts with an empty page cache. The limit counts page cache too, so a peer's mapped weights live within it; what
fathom keeps outside its own promise would too. Printed beside the speed: the most that the cgroup held, and for fathom the
share of the speed that its missing bytes would allow at the disk's speed for direct reads as large as an expert's matrices
(measured before and after each run by Python threads, which may be slower than io_uring: above 100 % it is no bound), and the
shares of the time in which the disk was reading and in which nobody waited for it. --readahead sets the block device's
read-ahead in KiB for the time of the runs: it decides the fate of mapped weights (8 MiB read in vain a fault, or 128 KiB), so peers deserve both.

Needs root (cgroup v1 or v2 with the memory controller, drop_caches), Python 3 and nothing else; without root it says so
and ends with status 77.
"""
import argparse
import ctypes
import json
import mmap
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time

SKIPPED = 77


def size_of(text):
    """"3GiB", "512M", "4096" in bytes, as fathom reads them."""
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)(iB|B|)\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{text}: not a size, e.g. 3GiB")
    factor = 1000 if match[3].lower() == "b" and match[2] else 1024
    return int(float(match[1]) * factor ** (" KMGT".index(match[2].upper() or " ")))


# What programs say.

def fathom_result(text, kind):
    """tokens/s and what it read, from `fathom bench --json`; kind: "decode" or "prefill"."""
    report = json.loads(text)
    result = report["results"][0]
    row = {"tokens_per_second": result[f"{kind}_tokens_per_second"]["median"]}
    memory = report.get("memory") or {}
    row["peak"] = memory.get("peak_resident_bytes")
    row["kept"] = memory.get("promise_kept")
    work = result.get(f"{kind}_experts")
    if work and work["uses"]:
        row["bytes_per_token"] = work["bytes_read"] / work["tokens"]
        row["hit_share"] = work["hits"] / work["uses"]
        row["slots"] = report["experts"]["slots"]
        row["disk_busy"] = min(1.0, work["busy_seconds"] / work["seconds"])
        row["computing"] = max(0.0, 1 - work["stall_seconds"] / work["seconds"])
    return row


def llama_result(text, kind):
    """tokens/s from llama-bench -o json; ik_llama.cpp's prints lines before it."""
    rows = json.loads(text[text.index("["):])
    wanted = "n_gen" if kind == "decode" else "n_prompt"
    return {"tokens_per_second": [row for row in rows if row.get(wanted, 0) > 0][0]["avg_ts"]}


def disk_share(row, disk_rate):
    """Of the tokens/s that the bytes read a token would allow at the disk's speed; None where nothing is read."""
    if not row.get("bytes_per_token") or not disk_rate:
        return None
    return row["tokens_per_second"] * row["bytes_per_token"] / disk_rate


def table(rows):
    """Markdown: a line a program, medians over rounds, and fathom's ratio to each within rounds."""
    lines = ["| | tokens/s | fathom is | peak in the cgroup | of the disk's bound | disk busy, computing |",
             "|---|---|---|---|---|---|"]
    by_round = {}
    for row in rows:
        if row.get("tokens_per_second"):
            by_round.setdefault((row["memory"], row["readahead"], row["round"]), {})[row["program"]] = row
    names = sorted({(row["memory"], row["readahead"], row["program"]) for row in rows},
                   key=lambda name: (name[0], str(name[1]), name[2] != "fathom", name[2]))
    for memory, readahead, program in names:
        mine = [row for row in rows if (row["memory"], row["readahead"], row["program"]) == (memory, readahead, program)]
        good = [row for row in mine if row.get("tokens_per_second")]
        ratios = [there["fathom"]["tokens_per_second"] / there[program]["tokens_per_second"]
                  for key, there in by_round.items()
                  if key[:2] == (memory, readahead) and program in there and "fathom" in there]
        shares = [row["disk_share"] for row in good if row.get("disk_share")]
        busy = [(row["disk_busy"], row["computing"]) for row in good if "disk_busy" in row]
        peaks = [row["cgroup_peak"] for row in mine if row.get("cgroup_peak")]
        speed = f"{statistics.median(row['tokens_per_second'] for row in good):.2f}" if good else mine[-1]["failed"]
        where = f"{memory}" + (f", readahead {readahead} KiB" if readahead else "")
        lines.append(f"| {program} ({where}) | {speed} | "
                     + (f"{statistics.median(ratios):.2f}×" if ratios and program != "fathom" else "") + " | "
                     + (f"{max(peaks) / 2**30:.2f} GiB" if peaks else "") + " | "
                     + (f"{100 * statistics.median(shares):.0f} %" if shares else "") + " | "
                     + (f"{100 * statistics.median(b[0] for b in busy):.0f} %, {100 * statistics.median(b[1] for b in busy):.0f} %"
                        if busy else "") + " |")
    return "\n".join(lines)


# The machine.

class Cgroup:
    """A memory limit for the processes that enter it; v2 or v1, whichever the machine has."""

    def __init__(self, limit, root="/sys/fs/cgroup"):
        self.v2 = os.path.exists(os.path.join(root, "cgroup.controllers"))
        parent = root if self.v2 else os.path.join(root, "memory")
        self.path = os.path.join(parent, f"fathom-bench-{os.getpid()}")
        if self.v2:
            self.write(os.path.join(root, "cgroup.subtree_control"), "+memory")
        os.mkdir(self.path)
        self.write("memory.max" if self.v2 else "memory.limit_in_bytes", str(limit))
        swap = "memory.swap.max" if self.v2 else "memory.memsw.limit_in_bytes"
        if os.path.exists(os.path.join(self.path, swap)):
            self.write(swap, "0" if self.v2 else str(limit))

    def write(self, name, text):
        with open(os.path.join(self.path, name) if not name.startswith("/") else name, "w", encoding="ascii") as out:
            out.write(text)

    def enter(self):
        """In the child, before it becomes the program."""
        self.write("cgroup.procs", str(os.getpid()))

    def peak(self):
        try:
            with open(os.path.join(self.path, "memory.peak" if self.v2 else "memory.max_usage_in_bytes"),
                      encoding="ascii") as text:
                return int(text.read())
        except OSError:
            return None  # kernels before 5.19 have no memory.peak

    def close(self):
        for _ in range(50):
            try:
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.1)


def why_not():
    """What of this is not possible here; None when all is."""
    if os.geteuid() != 0:
        return "a memory cgroup needs root"
    try:
        group = Cgroup(1 << 30)
        group.close()
    except OSError as error:
        return f"no memory cgroup can be made: {error}"
    return None


def drop_page_cache():
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as control:
        control.write("1\n")


def direct_read_rate(path, piece, seconds=4.0, threads=8, seed=0):
    """Bytes a second of random direct reads of `piece` bytes, so many at once."""
    piece = (piece + 4095) // 4096 * 4096
    pieces = os.path.getsize(path) // piece
    if pieces < 1:
        raise SystemExit(f"{path}: too small to measure the disk with")
    done, errors = [0] * threads, []
    file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    start = time.perf_counter()

    def work(number):
        generator = random.Random(seed * 1000 + number)
        # In huge pages, as the slots are: a disk takes larger requests then. They begin at multiples of 2 MiB.
        huge = 2 << 20
        buffer = mmap.mmap(-1, (piece // huge + 2) * huge, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            buffer.madvise(mmap.MADV_HUGEPAGE)
        skip = -ctypes.addressof(ctypes.c_char.from_buffer(buffer)) % huge
        view = memoryview(buffer)[skip:skip + piece]
        try:
            while time.perf_counter() < start + seconds:
                done[number] += os.preadv(file, [view], generator.randrange(pieces) * piece)
        except OSError as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    os.close(file)
    if errors:
        raise errors[0]
    return sum(done) / (time.perf_counter() - start)


def block_queue(path):
    """The queue folder of the device that a file lies on; None where there is none (overlay, network)."""
    device = os.stat(path).st_dev
    link = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    for folder in (f"{link}/queue", f"{link}/../queue"):
        if os.path.exists(f"{folder}/read_ahead_kb"):
            return folder
    return None


class ReadAhead:
    """Sets the device's read-ahead for a while; None leaves it."""

    def __init__(self, path, kib):
        self.file = None
        if kib is None:
            return
        queue = block_queue(path)
        if queue is None:
            raise SystemExit(f"{path}: its device has no read-ahead to set; leave --readahead out")
        self.file = f"{queue}/read_ahead_kb"
        with open(self.file, encoding="ascii") as now:
            self.before = now.read().strip()
        self.set(str(kib))

    def set(self, text):
        with open(self.file, "w", encoding="ascii") as out:
            out.write(text)

    def close(self):
        if self.file:
            self.set(self.before)


def commands(args):
    """By program: its command line."""
    common = ["-m", args.model, "-t", str(args.threads)]
    work = ["-p", str(args.prompt), "-n", "0"] if args.prompt else ["-p", "0", "-n", str(args.generate)]
    fathom = [args.fathom, "bench", *common, *work, "-r", str(args.repetitions), "--json",
              "-q", "--memory", args.memory]
    if args.replay_routing:
        fathom += ["--replay-routing", args.replay_routing]
    every = {"fathom": fathom + args.fathom_flags.split()}
    bench = [*work, "-r", str(args.repetitions), "-o", "json"]
    if args.llama:
        every["llama.cpp"] = [args.llama, *common, *bench, *args.llama_flags.split()]
    if args.ik:
        every["ik_llama.cpp"] = [args.ik, *common, *bench, *args.ik_flags.split()]
    return every


def run_limited(command, limit, timeout):
    """(stdout or None, why it failed, the cgroup's peak)."""
    group = Cgroup(limit)
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                              preexec_fn=group.enter)
        if done.returncode == 0:
            return done.stdout, None, group.peak()
        why = "killed (memory)" if done.returncode == -9 else f"status {done.returncode}: {done.stderr.strip()[-300:]}"
        return None, why, group.peak()
    except subprocess.TimeoutExpired:
        return None, f"more than {timeout} s", group.peak()
    finally:
        group.close()


def run(args):
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        return SKIPPED
    limit = size_of(args.limit or args.memory)
    readahead = ReadAhead(args.model, args.readahead)
    rows = []
    kind = "prefill" if args.prompt else "decode"
    try:
        programs = commands(args)
        for number in range(args.rounds):
            # Who goes first changes from round to round.
            names = list(programs)
            names = names[number % len(names):] + names[:number % len(names)]
            drop_page_cache()
            before = direct_read_rate(args.model, args.piece, seconds=args.disk_seconds, seed=number)
            for name in names:
                drop_page_cache()
                text, failed, peak = run_limited(programs[name], limit, args.timeout)
                # A shared disk swings: before each run and after it.
                after = direct_read_rate(args.model, args.piece, seconds=args.disk_seconds, seed=number + 1)
                disk, before = (before + after) / 2, after
                row = {"program": name, "round": number, "memory": args.memory, "readahead": args.readahead,
                       "limit": limit, "cgroup_peak": peak, "disk_bytes_per_second": disk, "routing": args.replay_routing, "prompt": args.prompt}
                if failed:
                    row["failed"] = failed
                elif name == "fathom":
                    row.update(fathom_result(text, kind))
                    row["disk_share"] = disk_share(row, disk)
                else:
                    row.update(llama_result(text, kind))
                rows.append(row)
                print(json.dumps(row), flush=True)
                if args.output:
                    with open(args.output, "a", encoding="utf-8") as out:
                        out.write(json.dumps(row) + "\n")
    finally:
        readahead.close()
    print(table(rows))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands_ = parser.add_subparsers(dest="command", required=True)
    runs = commands_.add_parser("run")
    runs.add_argument("--fathom", required=True)
    runs.add_argument("-m", "--model", required=True)
    runs.add_argument("--memory", default="3GiB", help="fathom's promise, and the limit for all unless --limit says otherwise")
    runs.add_argument("--limit", help="of the cgroup")
    runs.add_argument("--llama", help="llama.cpp's llama-bench")
    runs.add_argument("--llama-flags", default="", help="more for it, one string (mapped without repacking, say)")
    runs.add_argument("--ik", help="ik_llama.cpp's llama-bench")
    runs.add_argument("--ik-flags", default="-mla 3 -fa 1 -fmoe 1 -mmp 1 --defer-experts")
    runs.add_argument("--fathom-flags", default="")
    runs.add_argument("--replay-routing", help="a recorded routing for fathom")
    runs.add_argument("-t", "--threads", type=int, default=2)
    runs.add_argument("-n", "--generate", type=int, default=32)
    runs.add_argument("-p", "--prompt", type=int, default=0, help="measure prefill of so many tokens, not decoding")
    runs.add_argument("-r", "--repetitions", type=int, default=1, help="inside one run of a program")
    runs.add_argument("--rounds", type=int, default=3)
    runs.add_argument("--readahead", type=int, help="of the block device, KiB; default: as it is")
    runs.add_argument("--piece", type=int, default=1900 << 10, help="bytes of the disk's direct reads")
    runs.add_argument("--disk-seconds", type=float, default=4, help="that measuring the disk takes, around every run")
    runs.add_argument("--timeout", type=float, default=1800)
    runs.add_argument("-o", "--output", help="a line of JSON each")
    tables = commands_.add_parser("table")
    tables.add_argument("results")
    args = parser.parse_args()
    if args.command == "table":
        with open(args.results, encoding="utf-8") as lines:
            print(table([json.loads(line) for line in lines]))
        return 0
    return run(args)


if __name__ == "__main__":
    sys.exit(main())
