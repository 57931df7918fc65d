#!/usr/bin/env python3
"""What KV rows in 8 bits cost in quality and save in room: perplexity, greedy tokens and bytes a token of one model with
rows in bf16, fp8 and int8, as a Markdown table.

    python3 bench/kv_rows.py --fathom build/release/fathom -m model.gguf --text held-out.txt

Perplexity is `fathom perplexity` over the text's first --chunks windows. Greedy tokens: --prompts pieces of the text, evenly
spread, each continued by --tokens tokens at temperature 0. Reported are the tokens equal to bf16's at their place (after
the first difference the texts are different ones, so one early near-tie costs a whole answer), and the answers that are
equal to the end. Needs Python 3 and nothing else.
"""
import argparse
import json
import subprocess
import sys

TYPES = ["bf16", "fp8", "int8"]


def ask(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:4])} …: {done.stderr.strip()}")
    return json.loads(done.stdout)


def prompts_of(path, count, length):
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    step = len(text) // count
    if step < length:
        sys.exit(f"{path}: {len(text)} characters are too few for {count} prompts of {length}")
    # From a word's beginning to a word's end.
    pieces = [text[i * step:i * step + length] for i in range(count)]
    return [piece[piece.find(" ") + 1:piece.rfind(" ")] for piece in pieces]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--fathom", default="build/release/fathom")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("--chunks", type=int, default=40)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--length", type=int, default=600, help="characters of a prompt")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    common = ["-m", options.model, "-t", str(options.threads), "-q", "--json"]
    prompts = prompts_of(options.text, options.prompts, options.length)
    print("| rows | bytes a token | of bf16 | perplexity | against bf16 | greedy tokens equal | whole answers equal |")
    print("|---|---|---|---|---|---|---|")
    base = {}
    for kind in TYPES:
        perplexity = ask([options.fathom, "perplexity", *common, "--kv-type", kind, "-c", str(options.window), "--chunks",
                          str(options.chunks), options.text])
        answers, size = [], 0
        for prompt in prompts:
            answer = ask([options.fathom, "run", *common, "--kv-type", kind, "--raw", "--temp", "0", "--ignore-eos", "-n",
                          str(options.tokens), prompt])
            answers.append(answer["tokens"])
            size = answer["memory"]["kv_bytes_per_token"]
        base = base or {"size": size, "perplexity": perplexity["perplexity"], "answers": answers}
        pairs = list(zip(answers, base["answers"]))
        equal = sum(a == b for x, y in pairs for a, b in zip(x, y)) / sum(len(y) for _, y in pairs)
        whole = sum(x == y for x, y in pairs)
        change = perplexity["perplexity"] / base["perplexity"] - 1
        print(f"| {kind} | {size:,} | {size / base['size']:.2f} | {perplexity['perplexity']:.3f} ± "
              f"{perplexity['standard_error']:.2f} | {change:+.3%} | {equal:.1%} | {whole} of {len(prompts)} |", flush=True)


if __name__ == "__main__":
    main()
