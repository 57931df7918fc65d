#!/usr/bin/env python3
"""Decoding with a share of a model's file in memory, beside the same with all of it in memory, on routing that somebody recorded.

    python3 bench/skewed_experts.py --fathom build/release/fathom -m lite.gguf \\
            --routing trace_olmoe_299.jsonl [--share 0.6] [--guesses 0.88] [--rounds 3]

Both replay the recorded routing as the gates' decisions, in turn, in every round; the ratio is of the medians. The model's own
gates would choose almost uniformly where its weights are random. --guesses: what share of the early guesses at later layers'
experts is right (a random model of V2-Lite's shape guesses 88 % of its own choices, fathom-nano 76 %; wrong ones are any
experts, which on fathom-nano foretold the share of reads in vain to a point: 66 % used at 74 % resident).

The ratio depends on the machine twice, so it prints both beside: the memory's bandwidth while decoding in memory, and the disk's
rate while experts were read. Each run repeats --repetitions times and the median counts, since the first begins while the slots
are still being filled. Needs Python 3 and nothing else, and memory for the whole file: where that is missing it says so.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys


def bench(args, *more):
    command = [args.fathom, "bench", "-m", args.model, "-t", str(args.threads), "-p", "0", "-n", str(args.generate),
               "-r", str(args.repetitions), "--json", "--replay-routing", args.routing, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=args.timeout)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr.strip()}")
    return json.loads(done.stdout)


def in_memory(args):
    result = bench(args)["results"][0]
    return {"rate": result["decode_tokens_per_second"]["median"],
            "bandwidth": (result.get("bandwidth_gb_per_second") or {}).get("median")}


def streamed(args, budget):
    report = bench(args, "--memory", str(budget), "--replay-guesses", str(args.guesses))
    work = report["results"][0]["decode_experts"]
    row = {"rate": report["results"][0]["decode_tokens_per_second"]["median"]}
    row["resident"] = work["hits"] / work["uses"]
    row["bytes"] = work["bytes_read"] / work["tokens"]
    row["disk"] = work["bytes_read"] / work["busy_seconds"] if work.get("busy_seconds") else None
    row["kept"] = (report.get("memory") or {}).get("promise_kept")
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fathom", required=True)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--routing", required=True, help="a recorded routing, see docs/formats/routing.md")
    parser.add_argument("--share", type=float, default=0.6, help="of the file's size, in memory")
    parser.add_argument("--guesses", type=float, default=0.88, help="share of early guesses that are right")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-n", "--generate", type=int, default=128)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900)
    args = parser.parse_args()

    size = os.path.getsize(args.model)
    with open("/proc/meminfo", encoding="ascii") as info:
        available = next(int(line.split()[1]) * 1024 for line in info if line.startswith("MemAvailable"))
    if available < size * 1.1:
        sys.exit(f"{args.model} has {size / 1e9:.1f} GB and {available / 1e9:.1f} GB of memory are available: nothing to compare with")
    budget = int(size * args.share)
    whole, part = [], []
    for number in range(args.rounds):
        whole.append(in_memory(args))
        part.append(streamed(args, budget))
        w, p = whole[-1], part[-1]
        at = f" at {w['bandwidth']:.1f} GB/s" if w["bandwidth"] else ""
        disk = f" at {p['disk'] / 1e9:.2f} GB/s" if p["disk"] else ""
        print(f"round {number + 1}: in memory {w['rate']:.1f} tokens/s{at}; {budget / 1e9:.2f} GB: {p['rate']:.1f} tokens/s "
              f"({p['rate'] / w['rate']:.2f}), {100 * p['resident']:.1f} % resident, {p['bytes'] / 2**20:.0f} MiB a token read{disk}"
              f"{'' if p['kept'] in (True, None) else ', PROMISE NOT KEPT'}", flush=True)
    ratio = statistics.median(p["rate"] for p in part) / statistics.median(w["rate"] for w in whole)
    print(f"medians: {statistics.median(w['rate'] for w in whole):.1f} in memory, "
          f"{statistics.median(p['rate'] for p in part):.1f} with {100 * args.share:.0f} % of it: ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
