#!/usr/bin/env python3
"""fathom against llama.cpp and ik_llama.cpp on one GGUF, interleaved, with memory bandwidth measured around every run.

  bench/compare_llama_bench.py MODEL.gguf --llama PATH/llama-bench --ik PATH/llama-bench [-t 2] [-p 512] [-n 64]
                               [-d 0,4096] [--rounds 3] [--json OUT]

Shared machines swing by half within minutes, so absolute figures mean little: every round runs each program once for
each test, one after another, and what counts is the ratio within a round. A program left out is not run. The model file is
read through before every run, because peers that copy weights into their own memory push it out of the page cache.
llama.cpp runs as it comes (flash attention automatic), ik_llama.cpp with -mla 3 -fa 1 -fmoe 1 (--ik-flags "-rtr 1" adds
its repacking: a tenth faster, but a second copy of the weights in memory). Needs only Python 3.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")  # vocabularies in logs
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def bandwidth(args):
    report = json.loads(run([args.fathom, "doctor", "--json", "-t", str(args.threads)]))
    return report["bandwidth_gb_per_second"]


def fathom(args, test, depth):
    p, n = (args.prompt, 0) if test == "prefill" else (0, args.generate)
    report = json.loads(run([args.fathom, "bench", "-m", args.model, "-t", str(args.threads), "-p", str(p),
                             "-n", str(n), "-d", str(depth), "-r", str(args.repetitions), "--no-ceilings", "-q", "--json"]))
    return report["results"][0][f"{test}_tokens_per_second"]["median"]


def llama(args, test, depth):
    p, n = (args.prompt, 0) if test == "prefill" else (0, args.generate)
    rows = json.loads(run([args.llama, "-m", args.model, "-t", str(args.threads), "-p", str(p), "-n", str(n),
                           "-d", str(depth), "-r", str(args.repetitions), "-o", "json"]))
    return rows[0]["avg_ts"]


def ik(args, test, depth):
    command = [args.ik, "-m", args.model, "-t", str(args.threads), "-r", str(args.repetitions), "-o", "json",
               "-mla", "3", "-fa", "1", "-fmoe", "1", *args.ik_flags.split()]
    if test == "prefill":
        if depth:
            return None  # its bench has no prefill at a depth
        command += ["-p", str(args.prompt), "-n", "0"]
    elif depth:
        command += ["-p", "0", "-n", "0", "-gp", f"{depth},{args.generate}"]
    else:
        command += ["-p", "0", "-n", str(args.generate)]
    out = run(command)
    return json.loads(out[out.index("["):])[0]["avg_ts"]


def warm(path):
    with open(path, "rb", buffering=0) as file:
        block = bytearray(16 << 20)
        while file.readinto(block):
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--fathom", default=os.path.join(ROOT, "build", "release", "fathom"))
    parser.add_argument("--llama", help="llama.cpp's llama-bench")
    parser.add_argument("--ik", help="ik_llama.cpp's llama-bench")
    parser.add_argument("--ik-flags", default="", help="more flags for ik_llama.cpp, one string")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--prompt", type=int, default=512)
    parser.add_argument("-n", "--generate", type=int, default=64)
    parser.add_argument("-d", "--depths", default="0,4096")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-r", "--repetitions", type=int, default=1, help="inside one run of a program")
    parser.add_argument("--tests", default="prefill,decode")
    parser.add_argument("--json", help="write everything here")
    args = parser.parse_args()

    programs = {"fathom": fathom}
    if args.llama:
        programs["llama.cpp"] = llama
    if args.ik:
        programs["ik_llama.cpp"] = ik
    depths = [int(d) for d in args.depths.split(",")]
    tests = [(t, d) for t in args.tests.split(",") for d in (depths if t == "decode" else [0])]

    measured = []
    for number in range(args.rounds):
        for test, depth in tests:
            # Who goes first changes from round to round.
            names = list(programs)
            names = names[number % len(names):] + names[: number % len(names)]
            for name in names:
                warm(args.model)
                before = bandwidth(args)
                rate = programs[name](args, test, depth)
                after = bandwidth(args)
                if rate is None:
                    continue
                measured.append({"round": number, "test": test, "depth": depth, "program": name,
                                 "tokens_per_second": rate, "bandwidth_before": before, "bandwidth_after": after})
                print(f"round {number + 1} {test:8} depth {depth:6} {name:13} {rate:9.2f} tok/s   "
                      f"bandwidth {before:.1f} -> {after:.1f} GB/s", file=sys.stderr, flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(measured, out, indent=1)

    def rates(test, depth, name):
        return {m["round"]: m["tokens_per_second"] for m in measured
                if (m["test"], m["depth"], m["program"]) == (test, depth, name)}

    print(f"{os.path.basename(args.model)}, {args.threads} threads, median of {args.rounds} rounds; "
          "ratio: fathom / peer, median of the rounds' ratios (least-most)")
    for test, depth in tests:
        ours = rates(test, depth, "fathom")
        tokens = args.prompt if test == "prefill" else args.generate
        print(f"{test} {tokens} at depth {depth}: fathom {statistics.median(ours.values()):.2f}", end="")
        for name in programs:
            theirs = rates(test, depth, name)
            if name == "fathom" or not theirs:
                continue
            ratios = sorted(ours[r] / theirs[r] for r in theirs)
            print(f"; {name} {statistics.median(theirs.values()):.2f}, ratio {statistics.median(ratios):.2f} "
                  f"({ratios[0]:.2f}-{ratios[-1]:.2f})", end="")
        print()


if __name__ == "__main__":
    main()
