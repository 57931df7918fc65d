"""Greedy continuations of a small real model by llama.cpp, confirmed by its weights dequantised to F32.

    python make_smollm2.py LLAMA_SERVER MODEL.gguf --version TEXT [--out FILE]

The prompts were picked from about fifty (a model this small is often undecided) for this: the 32 greedy tokens are
the same in both programs, and the best token is ahead of the second by 0.15 or more, in logits, at every step in
both. llama.cpp multiplies quantised weights with activations rounded to 8 bits, which moves log-probabilities by
0.03 to 0.3 (max_logprob_difference); an engine that keeps activations in F32 should come much closer to f32_top5.
margins_llama_cpp is null where the server shows no probabilities (a token that ends inside a UTF-8 character).
Needs gguf, numpy, torch, transformers.
"""

import argparse
import hashlib
import json
import os
import sys

import gguf
import numpy as np
import torch
import transformers

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "gguf"))
from check_gguf import Server, post

STEPS, MARGIN = 32, 0.15
PROMPTS = [
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,",
    "SELECT name, age FROM users WHERE",
    "Our Father, who art in heaven, hallowed be thy name;",
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n    <meta charset=\"UTF-8\">\n",
    "{\"id\": 1, \"name\": \"Ann\"}\n{\"id\": 2, \"name\": \"Bob\"}\n{\"id\": 3, \"name\": \"Carl\"}\n",
    "Éé àà 日本 日本 日本 日本 日本",
    "🙂🙃🙂🙃🙂🙃🙂🙃🙂🙃",
    "Row, row, row your boat,\nGently down the stream.\nMerrily, merrily, merrily, merrily,\n",
]


def undo_permute(x, heads):
    return x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def f32_model(path):
    """transformers' Llama with every weight of the file dequantised to F32."""
    reader = gguf.GGUFReader(path)

    def key(name):
        return reader.fields["llama." + name].contents()

    heads, kv = key("attention.head_count"), key("attention.head_count_kv")
    cfg = transformers.LlamaConfig(
        vocab_size=key("vocab_size"), hidden_size=key("embedding_length"), intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"), num_attention_heads=heads, num_key_value_heads=kv,
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"), max_position_embeddings=key("context_length"),
        tie_word_embeddings=True, rope_theta=key("rope.freq_base"), attn_implementation="eager")
    assert cfg.rope_parameters["rope_theta"] == key("rope.freq_base")
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
             "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    state = {}
    for t in reader.tensors:
        x = gguf.quants.dequantize(t.data, t.tensor_type).reshape([int(n) for n in reversed(t.shape)])
        part = t.name.split(".")
        if part[0] == "blk":
            if part[2] in ("attn_q", "attn_k"):
                x = undo_permute(x, heads if part[2] == "attn_q" else kv)
            name = f"model.layers.{part[1]}.{names[part[2]]}.weight"
        else:
            name = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[t.name]
        state[name] = torch.from_numpy(np.array(x, np.float32, order="C"))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = transformers.LlamaForCausalLM(cfg).float().eval()
    model.load_state_dict(state, strict=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server")
    parser.add_argument("model")
    parser.add_argument("--version", required=True, help="what to call this llama.cpp")
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.json"))
    args = parser.parse_args()
    model, cases = f32_model(args.model), []
    with Server(args.server, args.model) as server:
        for text in PROMPTS:
            # add_special: a beginning-of-sequence token if the model's metadata asks for one (it does not).
            ids = post(server.port, "/tokenize", {"content": text, "add_special": True, "parse_special": False})["tokens"]
            out, margins, tops = [], [], []
            for _ in range(STEPS):
                got = post(server.port, "/completion", {
                    "prompt": ids + out, "n_predict": 1, "temperature": 0, "n_probs": 2, "return_tokens": True,
                    "cache_prompt": True})
                best = got.get("completion_probabilities", [{"top_logprobs": None}])[0]["top_logprobs"]
                if not got["tokens"] or got["stop_type"] == "eos":
                    break
                out += got["tokens"]
                margins.append(round(best[0]["logprob"] - best[1]["logprob"], 4) if best else None)
                tops.append(best[0]["logprob"] if best else None)
            with torch.no_grad():
                logits = model(torch.tensor([ids + out])).logits[0, len(ids) - 1:-1]
            f32 = torch.log_softmax(logits, -1)
            order = f32.topk(5)
            same = order.indices[:, 0].tolist() == out
            f32_margins = (order.values[:, 0] - order.values[:, 1]).tolist()
            least = min([m for m in margins if m is not None] + f32_margins)
            drift = max(abs(t - f32[i, out[i]].item()) for i, t in enumerate(tops) if t is not None)
            print(f"{text[:40]!r}: {len(out)} tokens, same {same}, least margin {least:.3f}, drift {drift:.3f}", flush=True)
            if len(out) < STEPS or not same or least < MARGIN:
                raise SystemExit("a near tie: replace this prompt")
            cases.append({
                "prompt": text, "prompt_ids": ids, "output_ids": out,
                "output": post(server.port, "/detokenize", {"tokens": out})["content"],
                "margins_llama_cpp": margins, "margins_f32": [round(m, 4) for m in f32_margins],
                "max_logprob_difference": round(drift, 4),
                "f32_top5": [[[int(i), round(float(v), 4)] for i, v in zip(*row)]
                             for row in zip(order.indices.tolist(), order.values.tolist())]})
    with open(args.model, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    flags = ["PORT" if a == str(server.port) else a for a in server.command[3:]]
    with open(args.out, "w") as f:
        json.dump({"model_sha256": digest, "llama_cpp": args.version, "command": "llama-server -m MODEL " + " ".join(flags),
                   "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
                   "steps": STEPS, "temperature": 0, "add_bos": False, "cases": cases}, f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
