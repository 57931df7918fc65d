#!/usr/bin/env python3
"""Losses and gradients of tiny DeepseekV3 models by transformers and PyTorch, for the trainer's tests.

Run from tests/golden: python train/train_gradients.py. Writes train/v3_mtp (a tiny model with one MTP layer, random
weights) and train/expected.json: for that model and for hf/v3, the losses of two packed documents with padding, some
logits, and of every parameter's gradient the norm and the dot product with sin(i + 1). Everything in float64.

  python train/train_gradients.py --export DIR    compares what the trainer exported there with transformers

Layers are transformers' own (those of the MTP block too). transformers has no MTP: the module around that block, the
sequence-wise balance loss and the packing are written here from DeepSeek-V3 (arXiv 2412.19437), equations 17-20 and
21-25, with the order of the published checkpoints: eh_proj [enorm(embedding of the next token); hnorm(hidden state
after the main model's last norm)].
"""
import argparse
import json
import os
import shutil
import tempfile

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as v3

HERE = os.path.dirname(os.path.abspath(__file__))
LAMBDA, ALPHA = 0.3, 0.02


class DoubleTorch:
    """transformers rounds the gate and the softmax to float32 by name; here these names mean float64."""
    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "vocab_size": 96, "bos_token_id": 0,
    "eos_token_id": 1, "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0,
    "rms_norm_eps": 1e-06, "tie_word_embeddings": False, "torch_dtype": "float32", "use_cache": True,
    "hidden_size": 40, "intermediate_size": 56, "moe_intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "n_shared_experts": 1, "n_routed_experts": 8,
    "num_experts_per_tok": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1, "kv_lora_rank": 20, "q_lora_rank": 24,
    "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 14, "max_position_embeddings": 256,
    "rope_theta": 10000, "rope_scaling": None, "n_group": 4, "topk_group": 2, "norm_topk_prob": True,
    "scoring_func": "sigmoid", "topk_method": "noaux_tc", "routed_scaling_factor": 2.5,
    "num_nextn_predict_layers": 1,
}


def make_weights(c, seed):
    g = torch.Generator().manual_seed(seed)
    w = {}

    def linear(name, rows, cols, gain=1.0):
        w[name + ".weight"] = torch.randn(rows, cols, generator=g) * (gain / cols ** 0.5)

    def norm(name, n):
        w[name + ".weight"] = 1 + 0.2 * torch.randn(n, generator=g)

    def mlp(p, inter):
        linear(p + "gate_proj", inter, h, 1.4)
        linear(p + "up_proj", inter, h, 1.4)
        linear(p + "down_proj", h, inter, 1.4)

    h, heads, layers = c["hidden_size"], c["num_attention_heads"], c["num_hidden_layers"]
    nope, rope, vd, rank = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    w["model.embed_tokens.weight"] = torch.randn(c["vocab_size"], h, generator=g)
    for i in range(layers + c["num_nextn_predict_layers"]):
        p = f"model.layers.{i}."
        if i >= layers:
            norm(p + "enorm", h)
            norm(p + "hnorm", h)
            linear(p + "eh_proj", h, 2 * h)
            norm(p + "shared_head.norm", h)
        norm(p + "input_layernorm", h)
        a = p + "self_attn."
        linear(a + "q_a_proj", c["q_lora_rank"], h)
        norm(a + "q_a_layernorm", c["q_lora_rank"])
        linear(a + "q_b_proj", heads * (nope + rope), c["q_lora_rank"], 1.6)
        linear(a + "kv_a_proj_with_mqa", rank + rope, h, 1.3)
        norm(a + "kv_a_layernorm", rank)
        linear(a + "kv_b_proj", heads * (nope + vd), rank, 1.3)
        linear(a + "o_proj", h, heads * vd, 1.5)
        norm(p + "post_attention_layernorm", h)
        m = p + "mlp."
        if i < c["first_k_dense_replace"]:
            mlp(m, c["intermediate_size"])
            continue
        linear(m + "gate", c["n_routed_experts"], h, 1.5)
        bias = 0.1 + 0.15 * torch.randn(c["n_routed_experts"], generator=g)
        w[m + "gate.e_score_correction_bias"] = bias.clamp(min=0)
        for e in range(c["n_routed_experts"]):
            mlp(f"{m}experts.{e}.", c["moe_intermediate_size"])
        mlp(m + "shared_experts.", c["moe_intermediate_size"] * c["n_shared_experts"])
    norm("model.norm", h)
    linear("lm_head", c["vocab_size"], h, 3.0)
    # 12 mantissa bits: not representable in BF16, yet a third smaller when compressed.
    return {k: (v.view(torch.int32) & ~0xFFF).view(torch.float32) for k, v in w.items()}


def load(config, weights):
    """transformers' model with every layer, MTP's block too, as one more layer behind the others."""
    plain = {k: v for k, v in config.items() if k != "torch_dtype"}
    plain["num_hidden_layers"] += plain.pop("num_nextn_predict_layers", 0)
    mtp_only = ("enorm", "hnorm", "eh_proj", "shared_head")
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "config.json"), "w") as f:
            json.dump(plain, f)
        save_file({k: v.contiguous() for k, v in weights.items() if not any(m in k for m in mtp_only)},
                  os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
        model, info = v3.DeepseekV3ForCausalLM.from_pretrained(
            d, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
            output_loading_info=True)
    for key, names in info.items():
        if names:
            raise SystemExit(f"loading: {key}: {names}")
    extra = {k: v.double().requires_grad_() for k, v in weights.items() if any(m in k for m in mtp_only)}
    model = model.double()
    # Buffers of the rotary embedding stay what float32 made them.
    return model.eval(), extra


def rms_norm(x, w, eps=1e-6):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * w


def balance_loss(layer, hidden, c):
    """Equations 17-20 of one document, times its tokens. hidden: what the gate sees, [T, H]."""
    gate = layer.mlp.gate
    scores = torch.sigmoid(hidden @ gate.weight.T)
    with torch.no_grad():
        chosen = gate(hidden)[2]
    e, k, t = c["n_routed_experts"], c["num_experts_per_tok"], hidden.shape[0]
    f = F.one_hot(chosen, e).sum((0, 1)).double() * e / (k * t)
    p = (scores / scores.sum(-1, keepdim=True)).mean(0)
    return (f * p).sum() * t, F.one_hot(chosen, e).sum((0, 1))


def run(config, weights, documents, padding):
    """documents: lists of (token, target or -1)."""
    c, layers = config, config["num_hidden_layers"]
    model, extra = load(config, weights)
    inner = model.model
    gated = {}
    for i, layer in enumerate(inner.layers):
        if hasattr(layer.mlp, "gate"):
            layer.mlp.register_forward_pre_hook(lambda m, args, i=i: gated.__setitem__(i, args[0][0]))
    sums = {"next": 0.0, "mtp": 0.0, "balance": 0.0}
    counts = {"next": 0, "mtp": 0}
    total, logits, loads = 0.0, [], {}

    def cross_entropy(kind, h, targets):
        keep = targets >= 0
        loss = F.cross_entropy(model.lm_head(h)[keep], targets[keep], reduction="sum")
        sums[kind] += loss.item()
        counts[kind] += int(keep.sum())
        return loss

    def block(i, x, mask, rope, positions):
        nonlocal total
        x = inner.layers[i](x, attention_mask=mask, position_ids=positions, position_embeddings=rope)
        if i in gated:
            loss, load_ = balance_loss(inner.layers[i], gated[i], c)
            sums["balance"] += ALPHA * loss.item()
            total = total + ALPHA * loss
            loads[i] = loads.get(i, 0) + load_
        return x

    for doc in documents:
        tokens, targets = torch.tensor([t for t, _ in doc]), torch.tensor([t for _, t in doc])
        n = len(doc)
        positions = torch.arange(n)[None]
        x = inner.embed_tokens(tokens)[None]
        rope = inner.rotary_emb(x, positions)
        mask = torch.full((n, n), float("-inf"), dtype=torch.float64).triu(1)[None, None]
        for i in range(layers):
            x = block(i, x, mask, rope, positions)
        h = inner.norm(x)
        logits.append(model.lm_head(h)[0].detach())
        total = total + cross_entropy("next", h[0], targets)
        if c["num_nextn_predict_layers"]:
            p = f"model.layers.{layers}."
            following = torch.cat([tokens[1:], tokens[-1:]])
            joined = torch.cat([rms_norm(inner.embed_tokens(following), extra[p + "enorm.weight"]),
                                rms_norm(h[0], extra[p + "hnorm.weight"])], -1) @ extra[p + "eh_proj.weight"].T
            y = block(layers, joined[None], mask, rope, positions)
            y = rms_norm(y[0], extra[p + "shared_head.norm.weight"])
            shifted = torch.cat([targets[1:], torch.tensor([-1])])
            total = total + LAMBDA * cross_entropy("mtp", y, shifted)
    total.backward()

    # transformers keeps gate and up of an expert in one tensor, as the trainer does everywhere.
    grads = {}
    for name, p in model.named_parameters():
        if name.endswith("mlp.experts.gate_up_proj") or name.endswith("mlp.experts.down_proj"):
            name += ".weight"
        if name.endswith("up_proj.weight") and ".experts." not in name:
            continue
        if name.endswith("gate_proj.weight"):
            up = dict(model.named_parameters())[name.replace("gate_proj", "up_proj")]
            grads[name.replace("gate_proj", "gate_up_proj")] = torch.cat([p.grad, up.grad])
            continue
        grads[name] = p.grad
    grads |= {k: v.grad for k, v in extra.items()}
    facts = {}
    for name, g in grads.items():
        flat = g.flatten()
        facts[name] = {"norm": flat.norm().item(),
                       "dot": (flat * torch.sin(torch.arange(len(flat), dtype=torch.float64) + 1)).sum().item()}
    all_logits = torch.cat(logits)
    if not c["num_nextn_predict_layers"]:  # a witness that the loop above is transformers' own
        whole = model(torch.tensor([[t for t, _ in documents[0]]])).logits[0]
        assert (whole - logits[0]).abs().max() < 1e-9
    return {"documents": documents, "padding": padding, "mtp_weight": LAMBDA, "balance_weight": ALPHA,
            "losses": sums, "counts": counts, "total": total.item(),
            "loads": [loads[i].tolist() for i in sorted(loads)],
            "logits": {str(i): all_logits[i].tolist() for i in (0, 5, all_logits.shape[0] - 1)},
            "gradients": facts}


def documents(vocab, seed):
    rng = np.random.default_rng(seed)
    docs = []
    for n in (23, 9):
        tokens = [int(t) for t in rng.integers(2, vocab, n + 1)]
        # Some places count for nothing, as the questions of a chat.
        targets = [-1 if 3 <= i <= 4 else tokens[i + 1] for i in range(n - 1)] + [-1]
        docs.append(list(zip(tokens[:n], targets)))
    return docs


def check_export(folder):
    """What checkpoint_test wrote with FATHOM_EXPORT_DIR: a model directory and its logits by the trainer."""
    expected = load_file(os.path.join(folder, "logits.safetensors"))
    v3.torch = torch
    model = v3.DeepseekV3ForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                     experts_implementation="eager").eval()
    with torch.no_grad():
        logits = model(expected["tokens"].long()[None]).logits[0]
    diff = (logits - expected["logits"]).abs().max().item()
    print(f"{folder}: transformers and the trainer differ by at most {diff:.2e} (logits to {logits.abs().max():.1f})")
    if diff > 1e-4:
        raise SystemExit("too much")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if args.export:
        return check_export(args.export)
    v3.torch = DoubleTorch()
    own = make_weights(CONFIG, 3)
    folder = os.path.join(HERE, "v3_mtp")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(CONFIG, f, indent=2)
        f.write("\n")
    save_file(own, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})

    hf = os.path.join(HERE, "..", "hf", "v3")
    with open(os.path.join(hf, "config.json")) as f:
        hf_config = json.load(f)
    hf_weights = {}
    for file in sorted(os.listdir(hf)):
        if file.startswith("model-"):
            hf_weights |= load_file(os.path.join(hf, file))
    cases = {"train/v3_mtp": run(CONFIG, own, documents(CONFIG["vocab_size"], 1), 4),
             "hf/v3": run(hf_config, hf_weights, documents(hf_config["vocab_size"], 2), 0)}
    for name, case in cases.items():
        print(name, case["losses"], case["counts"], case["loads"])
    with open(os.path.join(HERE, "expected.json"), "w") as f:
        json.dump({"versions": {"torch": torch.__version__, "transformers": transformers.__version__},
                   "computed_in": "float64", "cases": cases}, f, indent=None, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
