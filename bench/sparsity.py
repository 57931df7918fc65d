#!/usr/bin/env python3
"""What sparsity buys: dense and mixture-of-experts models on the same data, optimiser and tokens.

    python3 bench/sparsity.py --fathom build/release/fathom --data '../shared/data/text/classic_books/*.txt.xz' -o out/

Every MoE model spends the same arithmetic a token as the dense one (the same layers, and experts whose chosen widths
sum to the dense width); they differ in how many experts there are to choose from, so in the share of parameters that a
token uses. The dense model is also trained for longer, and made wider, to find the compute at which it reaches each MoE
model's loss. Writes one recipe a run, keeps finished runs (call again to go on), and prints a Markdown table: loss on
held-out text against training FLOPs and seconds.
"""
import argparse
import json
import math
import os
import subprocess
import sys

BASE = dict(vocab_size=4096, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, q_lora_rank=64,
            kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32, routed_scaling_factor=1.0,
            max_position_embeddings=1024)
EXPERT_WIDTH = 64
CHOSEN, SHARED = 4, 1
DENSE_WIDTH = EXPERT_WIDTH * (CHOSEN + SHARED)


def models():
    """name -> (model keys, factor on tokens)."""
    runs = {}
    dense = dict(BASE, intermediate_size=DENSE_WIDTH, first_k_dense_replace=BASE["num_hidden_layers"])
    runs["dense"] = (dense, 1)
    runs["dense, 2x tokens"] = (dense, 2)
    runs["dense, 4x tokens"] = (dense, 4)
    runs["dense, 4x width"] = (dict(dense, intermediate_size=4 * DENSE_WIDTH), 1)
    for experts in (16, 32, 64, 128):
        runs[f"MoE, {CHOSEN} of {experts}"] = (dict(
            BASE, first_k_dense_replace=0, n_routed_experts=experts, num_experts_per_tok=CHOSEN,
            n_shared_experts=SHARED, moe_intermediate_size=EXPERT_WIDTH), 1)
    return runs


def parameters(m):
    """Total and active weights without embedding and head: what the layers hold and what a token uses of it."""
    h, heads, layers = m["hidden_size"], m["num_attention_heads"], m["num_hidden_layers"]
    qk = m["qk_nope_head_dim"] + m["qk_rope_head_dim"]
    attention = (h * m["q_lora_rank"] + m["q_lora_rank"] * heads * qk + h * (m["kv_lora_rank"] + m["qk_rope_head_dim"])
                 + m["kv_lora_rank"] * heads * (m["qk_nope_head_dim"] + m["v_head_dim"]) + heads * m["v_head_dim"] * h)
    if "n_routed_experts" not in m:
        width = 3 * h * m["intermediate_size"]
        return layers * (attention + width), layers * (attention + width)
    expert, router = 3 * h * m["moe_intermediate_size"], h * m["n_routed_experts"]
    total = attention + router + expert * (m["n_routed_experts"] + m["n_shared_experts"])
    active = attention + router + expert * (m["num_experts_per_tok"] + m["n_shared_experts"])
    return layers * total, layers * active


def recipe(args, name, model, factor):
    folder = os.path.join(args.output, name.replace(",", "").replace(" ", "-"))
    os.makedirs(folder, exist_ok=True)
    keys = "\n".join(f"{key} = {json.dumps(value)}" for key, value in model.items())
    data = json.dumps(os.path.abspath(args.data))
    tokens = int(args.tokens * factor)
    path = os.path.join(folder, "recipe.toml")
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"""name = {json.dumps(name)}
[tokenizer]
path = {json.dumps(os.path.abspath(args.tokenizer))}
[output]
path = {json.dumps(os.path.abspath(folder))}
[model]
{keys}
[batch]
tokens = 8192
micro_tokens = 8192
sequence_length = 256
[optimizer]
learning_rate = {args.rate}
adam_learning_rate = {args.rate / 2}
newton_schulz_steps = 5
[schedule]
warmup_tokens = {tokens // 40}
decay_share = 0.3
final_share = 0.05
[loss]
bias_update_speed = 0.01
sequence_balance_weight = 1e-3
[[stage]]
name = "prose"
tokens = {tokens}
[[stage.data]]
kind = "text"
paths = [{data}]
held_out_share = 0.01
[validation]
tokens = 262144
every_steps = {max(1, tokens // 8192 // 10)}
[[validation.data]]
kind = "text"
paths = [{data}]
held_out_share = 0.01
held_out = true
""")
    return path, folder


def measure(folder):
    curve, flops_per_token, seconds, rate = [], 0, 0, []
    with open(os.path.join(folder, "metrics.jsonl"), encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            if line.get("event") == "start":
                flops_per_token = line["run"]["flops_per_token"]
            elif line.get("event") == "validation":
                curve.append((line["tokens"], line["loss"]))
            elif "loss" in line and "event" not in line:
                seconds = line["seconds"]
                rate.append(line["tokens_per_second"])
    return dict(curve=curve, flops_per_token=flops_per_token, seconds=seconds, loss=curve[-1][1], tokens=curve[-1][0])


def dense_compute_at(results, loss):
    """FLOPs at which dense training reaches `loss`: between finished runs, log-linear in compute; None beyond them."""
    points = sorted((r["flops_per_token"] * r["tokens"], r["loss"]) for n, r in results.items() if n.startswith("dense"))
    frontier = []
    for flops, reached in points:  # more compute that is worse is no reason to count it
        if not frontier or reached < frontier[-1][1]:
            frontier.append((flops, reached))
    if not frontier or loss >= frontier[0][1]:
        return None
    for (f0, l0), (f1, l1) in zip(frontier, frontier[1:]):
        if l1 <= loss:
            return math.exp(math.log(f0) + (l0 - loss) / (l0 - l1) * math.log(f1 / f0))
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--fathom", required=True)
    parser.add_argument("--data", required=True, help="text files, a glob; the last hundredth of each is held out")
    parser.add_argument("--tokenizer", default=os.path.join(here, "../models/fathom-nano/tokenizer.json"))
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--tokens", type=float, default=4e6, help="of the base runs (default 4e6)")
    parser.add_argument("--rate", type=float, default=0.005, help="Muon's peak learning rate")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--only", action="append", help="runs to make, by name; default: all")
    args = parser.parse_args()
    results = {}
    for name, (model, factor) in models().items():
        path, folder = recipe(args, name, model, factor)
        if not args.only or name in args.only:
            print(f"=== {name}", file=sys.stderr)
            subprocess.run([args.fathom, "train", path, "--threads", str(args.threads)], check=True)
        if os.path.exists(os.path.join(folder, "model", "model.safetensors")):
            results[name] = measure(folder)
    print("| model | layer weights | active | share | tokens | FLOPs | seconds | loss | dense FLOPs for that loss |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, r in results.items():
        total, active = parameters(models()[name][0])
        flops = r["flops_per_token"] * r["tokens"]
        dense = dense_compute_at(results, r["loss"]) if not name.startswith("dense") else None
        more = "" if name.startswith("dense") else (f"{dense / flops:.1f}x" if dense else "beyond the dense runs")
        print(f"| {name} | {total / 1e6:.2f} M | {active / 1e6:.2f} M | {100 * active / total:.1f} % | "
              f"{r['tokens'] / 1e6:.1f} M | {flops:.2e} | {r['seconds']:.0f} | {r['loss']:.4f} | {more} |")


if __name__ == "__main__":
    main()
