#!/usr/bin/env python3
"""Training speed of fathom against transformers' DeepseekV3 in PyTorch, interleaved, on the same configuration.

    python3 bench/compare_training.py --fathom build/release/fathom --data 'books/*.txt' [--threads 2] [--rounds 3]

Both take optimiser steps (forward, backward, AdamW) over the same text, cut into full rows of the same length (its
paragraphs are joined, so that fathom has no reason to cut earlier); neither trains MTP, which transformers does not have.
PyTorch runs in f32 and under bf16 autocast, fathom in f32 and bf16, one after another in every round, so that a busy
machine meets all of them. Prints tokens per second (median over steps, then over rounds) and ratios. Needs torch and
transformers in the Python that runs it.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

CONFIG = dict(vocab_size=4096, hidden_size=256, intermediate_size=768, moe_intermediate_size=128, num_hidden_layers=6,
              num_attention_heads=8, n_shared_experts=1, n_routed_experts=32, num_experts_per_tok=4,
              routed_scaling_factor=1.0, q_lora_rank=96, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16,
              v_head_dim=32, n_group=1, topk_group=1, first_k_dense_replace=1, norm_topk_prob=True,
              max_position_embeddings=4096)


def write_corpus(args, folder):
    """corpus.txt, one paragraph of as much of the data as the steps need, and rows.json, its rows of ids for PyTorch."""
    text = ""
    for path in sorted(glob.glob(args.data)):
        with open(path, encoding="utf-8", errors="replace") as file:
            text += " ".join(file.read().replace("<|", "< |").split()) + " "
        if len(text) > 8 * args.tokens * (args.steps + 1):
            break
    with open(os.path.join(folder, "corpus.txt"), "w", encoding="utf-8") as out:
        out.write(text)
    lines = os.path.join(folder, "corpus.jsonl")
    with open(lines, "w", encoding="utf-8") as out:
        out.write(json.dumps({"text": text}) + "\n")
    ids = json.loads(subprocess.run([args.fathom, "tokenize", args.tokenizer, "--jsonl", lines], check=True,
                                    stdout=subprocess.PIPE, text=True).stdout)
    step = args.length - 1  # each row begins with the beginning-of-sequence token, 0
    rows = [[0] + ids[i:i + step] for i in range(0, len(ids) - step, step)]
    if len(rows) < args.steps * args.tokens // args.length:
        sys.exit(f"{args.data} holds {len(rows)} rows of {args.length} tokens; {args.steps} steps need more data")
    with open(os.path.join(folder, "rows.json"), "w", encoding="utf-8") as out:
        json.dump(rows, out)


def recipe(args, folder, matmul):
    model = "\n".join(f"{key} = {json.dumps(value)}" for key, value in CONFIG.items())
    path = os.path.join(folder, f"{matmul}.toml")
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"""
[tokenizer]
path = {json.dumps(os.path.abspath(args.tokenizer))}
[output]
path = {json.dumps(os.path.join(folder, matmul))}
[model]
{model}
[batch]
tokens = {args.tokens}
micro_tokens = {args.tokens}
sequence_length = {args.length}
[precision]
matmul = "{matmul}"
[optimizer]
kind = "adamw"
[[stage]]
tokens = {args.tokens * args.steps}
[[stage.data]]
kind = "text"
paths = [{json.dumps(os.path.join(args.corpus, "corpus.txt"))}]
""")
    return path


def run_fathom(args, matmul):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([args.fathom, "train", recipe(args, folder, matmul), "--threads", str(args.threads), "--quiet"],
                       check=True)
        with open(os.path.join(folder, matmul, "metrics.jsonl"), encoding="utf-8") as lines:
            rates = [m["tokens_per_second"] for m in map(json.loads, lines) if "loss" in m and "step" in m
                     and "tokens_per_second" in m]
    return statistics.median(rates[args.warmup:])


def run_torch(args, matmul):
    import torch
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = DeepseekV3ForCausalLM(DeepseekV3Config(**CONFIG))
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with open(os.path.join(args.corpus, "rows.json"), encoding="utf-8") as file:
        data = torch.tensor(json.load(file))
    rows = args.tokens // args.length
    print(f"experts by {getattr(model.config, '_experts_implementation', 'unknown')}, torch {torch.__version__}", file=sys.stderr)
    rates = []
    for i in range(args.steps):
        ids = data[i * rows:(i + 1) * rows]
        start = time.time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=matmul == "bf16"):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rates.append(args.tokens / (time.time() - start))
    return statistics.median(rates[args.warmup:])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fathom", required=True)
    parser.add_argument("--data", required=True, help="text files to train on, a glob")
    parser.add_argument("--tokenizer", default=os.path.join(os.path.dirname(__file__), "../models/fathom-nano/tokenizer.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--warmup", type=int, default=2, help="steps that are not counted")
    parser.add_argument("--tokens", type=int, default=8192, help="of a step")
    parser.add_argument("--length", type=int, default=512, help="of a row or document")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one measurement of PyTorch, in a process of its own
    parser.add_argument("--corpus", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(run_torch(args, args.only))
        return
    with tempfile.TemporaryDirectory() as folder:
        args.corpus = folder
        write_corpus(args, folder)
        compare(args)


def compare(args):
    found = {}
    for number in range(args.rounds):
        for who in ("pytorch f32", "fathom f32", "pytorch bf16", "fathom bf16"):
            name, matmul = who.split()
            if name == "fathom":
                rate = run_fathom(args, matmul)
            else:
                out = subprocess.run([sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--only", matmul,
                                      "--corpus", args.corpus],
                                     check=True, stdout=subprocess.PIPE, text=True).stdout
                rate = float(out.strip().splitlines()[-1])
            found.setdefault(who, []).append(rate)
            print(f"round {number + 1}: {who:13} {rate:8.0f} tokens/s", file=sys.stderr)
    medians = {who: statistics.median(rates) for who, rates in found.items()}
    best = max(medians["pytorch f32"], medians["pytorch bf16"])
    report = {"tokens_per_second": medians, "fathom_bf16_over_best_pytorch": medians["fathom bf16"] / best,
              "fathom_f32_over_pytorch_f32": medians["fathom f32"] / medians["pytorch f32"],
              "fathom_bf16_over_pytorch_bf16": medians["fathom bf16"] / medians["pytorch bf16"]}
    if args.json:
        print(json.dumps(report, indent=1))
        return
    for who, rate in medians.items():
        print(f"{who:13} {rate:8.0f} tokens/s   ({', '.join(f'{r:.0f}' for r in found[who])})")
    for name in ("fathom_f32_over_pytorch_f32", "fathom_bf16_over_pytorch_bf16", "fathom_bf16_over_best_pytorch"):
        print(f"{name.replace('_', ' ')}: {report[name]:.2f}")


if __name__ == "__main__":
    main()
