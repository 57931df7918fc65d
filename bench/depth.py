#!/usr/bin/env python3
"""What a long context costs: prefill and decode at several depths, fathom against ik_llama.cpp and llama.cpp, in turns.

  bench/depth.py MODEL.gguf --ik-sweep PATH/llama-sweep-bench --llama PATH/llama-bench [-d 0,4096,16384] [--rounds 1]

Each round runs every program once. Printed are tokens/s, the ratio to fathom, and what is left of a program's own speed
at the first depth, which is what "falls by no more than" is about. ik_llama.cpp's llama-sweep-bench fills its context in
steps of 512 tokens and times each, with 128 generated tokens after it, so one run gives all depths; llama.cpp's
llama-bench fills a depth anew for each figure, which takes it long. The model file is read through before every run.
Needs only Python 3.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STEP = 512


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")  # vocabularies in logs
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout, done.stderr


def fathom(args, depths):
    report = json.loads(run([args.fathom, "bench", "-m", args.model, "-t", str(args.threads), "-p", str(STEP), "-n",
                             str(args.generate), "-d", ",".join(map(str, depths)), "-r", "1", "--no-ceilings", "-q", "--json",
                             *args.fathom_flags.split()])[0])
    return {row["depth"]: (row["prefill_tokens_per_second"]["median"], row["decode_tokens_per_second"]["median"])
            for row in report["results"]}


def ik(args, depths):
    # The sweep takes 128 tokens out of the context again after each step, so it ends at its size.
    # The table is on stderr.
    out = "\n".join(run([args.ik_sweep, "-m", args.model, "-t", str(args.threads), "-c", str(max(depths) + 2 * STEP), "-b", str(STEP),
               "-ub", str(STEP), *args.ik_flags.split()]))
    rows = {}
    for line in out.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 7 and re.fullmatch(r"\d+", cells[2]):
            rows[int(cells[2])] = (float(cells[4]), float(cells[6]))
    missing = [depth for depth in depths if depth not in rows]
    if missing:
        sys.exit(f"{args.ik_sweep}: no rows at depth {missing}; depths are multiples of {STEP}")
    return {depth: rows[depth] for depth in depths}


def llama(args, depths):
    result = {}
    for depth in depths:
        rows = json.loads(run([args.llama, "-m", args.model, "-t", str(args.threads), "-p", str(STEP), "-n",
                               str(args.generate), "-d", str(depth), "-r", "1", "-o", "json"])[0])
        result[depth] = tuple(next(r["avg_ts"] for r in rows if r[key] > 0) for key in ("n_prompt", "n_gen"))
    return result


def warm(path):
    with open(path, "rb", buffering=0) as file:
        block = bytearray(16 << 20)
        while file.readinto(block):
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--fathom", default=os.path.join(ROOT, "build", "release", "fathom"))
    parser.add_argument("--fathom-flags", default="", help='more flags for fathom, one string ("--kv-type int8")')
    parser.add_argument("--ik-sweep", help="ik_llama.cpp's llama-sweep-bench")
    parser.add_argument("--ik-flags", default="-mla 3 -fa 1 -rtr", help="flags for ik_llama.cpp, one string")
    parser.add_argument("--llama", help="llama.cpp's llama-bench")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-n", "--generate", type=int, default=128)
    parser.add_argument("-d", "--depths", default="0,4096,16384", help=f"multiples of {STEP}")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", help="write everything here")
    args = parser.parse_args()
    depths = sorted({int(d) for d in args.depths.split(",")})
    programs = {"fathom": fathom}
    if args.ik_sweep:
        programs["ik_llama.cpp"] = ik
    if args.llama:
        programs["llama.cpp"] = llama

    measured = []
    for number in range(args.rounds):
        names = list(programs)
        names = names[number % len(names):] + names[: number % len(names)]  # who goes first changes
        for name in names:
            warm(args.model)
            for depth, (prefill, decode) in programs[name](args, depths).items():
                measured.append({"round": number, "program": name, "depth": depth, "prefill": prefill, "decode": decode})
                print(f"round {number + 1} {name:13} depth {depth:6} prefill {prefill:8.2f} decode {decode:7.2f} tok/s",
                      file=sys.stderr, flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(measured, out, indent=1)

    def rates(name, depth, test):
        return [m[test] for m in measured if m["program"] == name and m["depth"] == depth]

    print(f"{os.path.basename(args.model)}, {args.threads} threads, {args.rounds} rounds: tokens/s (left of the first depth's), "
          "ratio fathom / peer")
    for test in ("prefill", "decode"):
        for depth in depths:
            cells = []
            for name in programs:
                rate = statistics.median(rates(name, depth, test))
                left = statistics.median(r / f for r, f in zip(rates(name, depth, test), rates(name, depths[0], test)))
                cell = f"{name} {rate:.2f} ({100 * left:.0f} %)"
                if name != "fathom":
                    ratios = sorted(a / b for a, b in zip(rates("fathom", depth, test), rates(name, depth, test)))
                    cell += f" ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
                cells.append(cell)
            print(f"{test} {STEP if test == 'prefill' else args.generate} at depth {depth}: {'; '.join(cells)}")


if __name__ == "__main__":
    main()
