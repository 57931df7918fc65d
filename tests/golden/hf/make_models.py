"""Makes tiny random models of every supported shape, and what the reference implementation says of them.

    python make_models.py [--out DIR] [name ...]

Needs torch, transformers, safetensors and numpy (see ../README.md for the versions used). For every model
it writes DIR/<name>/ with config.json, generation_config.json, the weights under Hugging Face names, and

  expected.json          prompt and greedy ids, versions, margins, and what single mistakes would cost
  expected.safetensors   prompt_ids I32 [P], logits F32 [P, vocab], greedy_ids I32 [N],
                         decode_logits F32 [N, vocab]; greedy_ids[i] = argmax(decode_logits[i]),
                         decode_logits[0] = logits[P-1]

The logits are transformers' (eager, F32, CPU). reference.py computes them a second time in float64; the two
must agree, or nothing is written. The seed of each model is the first from its base seed for which neither
a greedy choice nor an expert choice is a near tie.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import reference

VOCAB, PROMPT, NEW = 288, 40, 64
MIN_GREEDY, MIN_ROUTE = 5e-3, 1e-4


def yarn(factor, mscale, fast=32, slow=1):
    return {"beta_fast": fast, "beta_slow": slow, "factor": factor, "mscale": mscale, "mscale_all_dim": mscale,
            "original_max_position_embeddings": 32, "type": "yarn"}


def common(model_type, arch, **kw):
    c = {"architectures": [arch], "model_type": model_type, "vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 1,
         "hidden_act": "silu", "attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02,
         "rms_norm_eps": 1e-6, "tie_word_embeddings": False, "torch_dtype": "float32", "use_cache": True}
    c.update(kw)
    return c


def mla_moe(model_type, arch, v3, **kw):
    """A DeepSeek config; v3 picks sigmoid gating with a correction bias."""
    c = common(model_type, arch, hidden_size=64, intermediate_size=112, moe_intermediate_size=32,
               num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=4, n_shared_experts=1,
               n_routed_experts=16, num_experts_per_tok=4, first_k_dense_replace=1, moe_layer_freq=1,
               kv_lora_rank=64, q_lora_rank=None, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32,
               max_position_embeddings=1280, rope_theta=10000, rope_scaling=None, n_group=1, topk_group=1,
               norm_topk_prob=v3, scoring_func="sigmoid" if v3 else "softmax",
               topk_method="noaux_tc" if v3 else "greedy", routed_scaling_factor=1.0, pretraining_tp=1)
    if v3:
        c["num_nextn_predict_layers"] = 0
    c.update(kw)
    return c


V2, V3 = "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"
V3_SHAPE = dict(q_lora_rank=32, n_group=4, topk_group=2, routed_scaling_factor=2.5, rope_scaling=yarn(40, 1.0))
# name: (config, base seed, storage: f32 | bf16 | fp8, shards, bias mean)
MODELS = {
    "v2lite": (mla_moe("deepseek_v2", V2, False, num_experts_per_tok=3, n_shared_experts=2,
                       rope_scaling=yarn(40, 0.707)), 100, "f32", 1, 0),
    "v2": (mla_moe("deepseek_v2", V2, False, q_lora_rank=48, num_experts_per_tok=3, n_shared_experts=2,
                   n_group=4, topk_group=2, topk_method="group_limited_greedy", routed_scaling_factor=16.0, num_hidden_layers=2,
                   rope_scaling=yarn(40, 0.707)), 200, "f32", 1, 0),
    "v3": (mla_moe("deepseek_v3", V3, True, **V3_SHAPE), 300, "f32", 3, 0.1),
    "v3_negbias": (mla_moe("deepseek_v3", V3, True, **{**V3_SHAPE, "num_hidden_layers": 2}), 400, "f32", 1, -1.5),
    "kimi": (mla_moe("kimi_k2", V3, True, q_lora_rank=48, num_attention_heads=8, num_key_value_heads=8,
                     qk_nope_head_dim=16, v_head_dim=16, n_routed_experts=20, num_experts_per_tok=5,
                     num_hidden_layers=2, max_position_embeddings=1024, routed_scaling_factor=2.827,
                     rope_theta=50000.0, rope_scaling=yarn(32.0, 1.0, 1.0, 1.0)), 500, "f32", 1, 0.1),
    "moonlight": (mla_moe("deepseek_v3", V3, True, n_shared_experts=2, num_experts_per_tok=6, rms_norm_eps=1e-5,
                          routed_scaling_factor=2.446, rope_theta=50000.0, max_position_embeddings=8192, num_hidden_layers=2),
                  600, "f32", 1, 0.1),
    "glm_flash": ({k: v for k, v in mla_moe(
        "glm4_moe_lite", "Glm4MoeLiteForCausalLM", True, q_lora_rank=48, num_attention_heads=5, num_key_value_heads=5,
        qk_nope_head_dim=24, v_head_dim=32, routed_scaling_factor=1.8, rms_norm_eps=1e-5,
        max_position_embeddings=8192, num_hidden_layers=2,
        rope_parameters={"rope_theta": 1000000.0, "rope_type": "default", "partial_rotary_factor": 1.0}).items()
        if k not in ("rope_theta", "rope_scaling", "scoring_func", "moe_layer_freq")}, 700, "f32", 1, 0.1),
    "llama": (common("llama", "LlamaForCausalLM", hidden_size=64, intermediate_size=176, num_hidden_layers=3,
                     num_attention_heads=4, num_key_value_heads=2, head_dim=32, mlp_bias=False, rms_norm_eps=1e-5,
                     max_position_embeddings=256, rope_theta=500000.0,
                     rope_scaling={"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                   "original_max_position_embeddings": 32, "rope_type": "llama3"}),
              800, "f32", 1, 0),
    "llama_tied": (common("llama", "LlamaForCausalLM", hidden_size=96, intermediate_size=128, num_hidden_layers=3,
                          num_attention_heads=3, num_key_value_heads=1, tie_word_embeddings=True, rms_norm_eps=1e-5,
                          max_position_embeddings=2048, rope_theta=100000, rope_scaling=None), 900, "f32", 1, 0),
    "qwen2": (common("qwen2", "Qwen2ForCausalLM", hidden_size=64, intermediate_size=176, num_hidden_layers=3,
                     num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
                     max_position_embeddings=32768, rope_theta=1000000.0, max_window_layers=3, sliding_window=32768,
                     use_sliding_window=False), 1000, "f32", 1, 0),
    "v3_bf16": (mla_moe("deepseek_v3", V3, True, **V3_SHAPE, torch_dtype="bfloat16"), 1100, "bf16", 1, 0.1),
    "v3_fp8": (mla_moe("deepseek_v3", V3, True, **{
        **V3_SHAPE, "hidden_size": 160, "intermediate_size": 200, "moe_intermediate_size": 48, "q_lora_rank": 96,
        "kv_lora_rank": 144, "n_routed_experts": 8, "num_experts_per_tok": 3, "num_hidden_layers": 3},
        torch_dtype="bfloat16",
        quantization_config={"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                             "weight_block_size": [128, 128]}), 1200, "fp8", 1, 0.1),
}


def flat_rope(cfg):
    """reference.py reads rope_theta, rope_scaling and scoring_func at the top, as the older configs have them."""
    c = dict(cfg)
    if "rope_parameters" in c:
        c["rope_theta"], c["rope_scaling"] = c["rope_parameters"]["rope_theta"], None
    if c.get("topk_method") == "noaux_tc":
        c["scoring_func"] = "sigmoid"
    return c


def make_weights(cfg, seed, bias_mean):
    """Random weights under Hugging Face names: unit-gain linears, visible norms, biases and router."""
    g = torch.Generator().manual_seed(seed)
    w = {}

    def linear(name, rows, cols, gain=1.0):
        w[name + ".weight"] = torch.randn(rows, cols, generator=g) * (gain / cols ** 0.5)

    def norm(name, n):
        w[name + ".weight"] = 1 + 0.2 * torch.randn(n, generator=g)

    def mlp(p, inter):
        for n in ("gate_proj", "up_proj"):
            linear(p + n, inter, h, 1.4)
        linear(p + "down_proj", h, inter, 1.4)

    h, heads = cfg["hidden_size"], cfg["num_attention_heads"]
    w["model.embed_tokens.weight"] = torch.randn(VOCAB, h, generator=g)
    for i in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{i}."
        norm(p + "input_layernorm", h)
        a = p + "self_attn."
        if "kv_lora_rank" in cfg:
            nope, rope, vd, rank = (cfg[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
                                                      "kv_lora_rank"))
            if cfg["q_lora_rank"]:
                linear(a + "q_a_proj", cfg["q_lora_rank"], h)
                norm(a + "q_a_layernorm", cfg["q_lora_rank"])
                linear(a + "q_b_proj", heads * (nope + rope), cfg["q_lora_rank"], 1.6)
            else:
                linear(a + "q_proj", heads * (nope + rope), h, 1.6)
            linear(a + "kv_a_proj_with_mqa", rank + rope, h, 1.3)
            norm(a + "kv_a_layernorm", rank)
            linear(a + "kv_b_proj", heads * (nope + vd), rank, 1.3)
            linear(a + "o_proj", h, heads * vd, 1.5)
        else:
            kv, d = cfg["num_key_value_heads"], cfg.get("head_dim") or h // heads
            for n, rows in (("q", heads * d), ("k", kv * d), ("v", kv * d)):
                linear(f"{a}{n}_proj", rows, h, 1.4)
                if cfg["model_type"] == "qwen2":
                    w[f"{a}{n}_proj.bias"] = 0.5 * torch.randn(rows, generator=g)
            linear(a + "o_proj", h, heads * d, 1.5)
        norm(p + "post_attention_layernorm", h)
        m = p + "mlp."
        if "n_routed_experts" not in cfg or i < cfg["first_k_dense_replace"]:
            mlp(m, cfg["intermediate_size"])
            continue
        linear(m + "gate", cfg["n_routed_experts"], h, 1.5)
        if cfg["topk_method"] == "noaux_tc":
            w[m + "gate.e_score_correction_bias"] = bias_mean + 0.15 * torch.randn(cfg["n_routed_experts"], generator=g)
            if bias_mean > 0:  # keep score + bias positive
                w[m + "gate.e_score_correction_bias"].clamp_(min=0)
        for e in range(cfg["n_routed_experts"]):
            mlp(f"{m}experts.{e}.", cfg["moe_intermediate_size"])
        mlp(m + "shared_experts.", cfg["moe_intermediate_size"] * cfg["n_shared_experts"])
    norm("model.norm", h)
    if not cfg["tie_word_embeddings"]:
        linear("lm_head", VOCAB, h, 3.0)
    else:  # the head is the embedding: smaller, or the last token wins every time
        w["model.embed_tokens.weight"] *= 0.35
    # 12 mantissa bits: not representable in F16 or BF16, yet a third smaller when compressed.
    return {k: (v.view(torch.int32) & ~0xFFF).view(torch.float32) for k, v in w.items()}


def is_fp8(name):
    return name.endswith("_proj.weight") or name.endswith("kv_a_proj_with_mqa.weight")


def to_fp8(w):
    """128 x 128 blocks, each scaled to the e4m3 maximum: (stored, weight_scale_inv)."""
    rows, cols = w.shape
    scale = torch.zeros((rows + 127) // 128, (cols + 127) // 128)
    q = torch.zeros(rows, cols, dtype=torch.float8_e4m3fn)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            block = w[i * 128:(i + 1) * 128, j * 128:(j + 1) * 128]
            scale[i, j] = block.abs().max() / 448.0
            q[i * 128:(i + 1) * 128, j * 128:(j + 1) * 128] = (block / scale[i, j]).to(torch.float8_e4m3fn)
    return q, scale


def from_fp8(q, scale):
    full = scale.repeat_interleave(128, 0)[:q.shape[0]].repeat_interleave(128, 1)[:, :q.shape[1]]
    return q.to(torch.float32) * full


def store(w, storage):
    """(tensors as stored, the F32 values they mean)."""
    if storage == "f32":
        return w, w
    stored, meant = {}, {}
    for k, v in w.items():
        if k.endswith("e_score_correction_bias"):
            stored[k] = meant[k] = v
        elif storage == "fp8" and is_fp8(k):
            stored[k], scale = to_fp8(v)
            stored[k + "_scale_inv"] = scale
            meant[k] = from_fp8(stored[k], scale)
        else:
            stored[k] = v.to(torch.bfloat16)
            meant[k] = stored[k].float()
    return stored, meant


def build(cfg, meant):
    """The transformers model of this config with these F32 weights."""
    plain = {k: v for k, v in cfg.items() if k not in ("quantization_config", "torch_dtype", "architectures")}
    cls = getattr(transformers, cfg["architectures"][0])
    plain["model_type"] = cls.config_class.model_type
    with tempfile.TemporaryDirectory() as d:
        with open(os.path.join(d, "config.json"), "w") as f:
            json.dump({**plain, "architectures": cfg["architectures"]}, f)
        save_file(meant, os.path.join(d, "model.safetensors"), metadata={"format": "pt"})
        model, info = cls.from_pretrained(d, dtype=torch.float32, attn_implementation="eager",
                                          experts_implementation="eager", output_loading_info=True)
    for key, names in info.items():
        names = [n for n in names if not (cfg["tie_word_embeddings"] and "lm_head" in str(n))]
        if names:
            raise SystemExit(f"loading: {key}: {names}")
    return model.eval()


def run(model, prompt):
    with torch.no_grad():
        out = model(torch.tensor([prompt]), use_cache=True)
        logits = out.logits[0]
        ids, rows = [], [logits[-1]]
        for step in range(NEW):
            ids.append(int(rows[-1].argmax()))
            if step + 1 < NEW:
                out = model(torch.tensor([[ids[-1]]]), past_key_values=out.past_key_values, use_cache=True)
                rows.append(out.logits[0, -1])
    return logits.numpy().astype(np.float32), ids, torch.stack(rows).numpy().astype(np.float32)


def mistakes(cfg, storage):
    """Single wrong settings that the goldens of this model must notice."""
    m = []
    if "kv_lora_rank" in cfg:
        m += ["half_split_rope", "no_shared", "no_routed_scale"]
        if cfg.get("rope_scaling"):
            m += ["no_rope_scaling", "no_mscale"]
        if cfg["rms_norm_eps"] != 1e-6:
            m.append("latent_eps_from_config")
        if cfg["n_group"] > 1:
            m.append("no_groups")
        if cfg["topk_method"] == "noaux_tc":
            m += ["no_gate_bias", "biased_weights", "no_renorm"]
            if cfg["n_group"] > 1:
                m.append("mask_with_zero")
    else:
        m.append("interleaved_rope")
        if cfg.get("rope_scaling"):
            m.append("no_rope_scaling")
        if cfg["model_type"] == "qwen2":
            m.append("no_bias")
    return [x for x in m if not (x == "no_routed_scale" and cfg["routed_scaling_factor"] == 1.0)]


def save_weights(path, stored, shards):
    stored = {k: v.contiguous() for k, v in stored.items()}
    meta = {"format": "pt"}
    if shards == 1:
        save_file(stored, os.path.join(path, "model.safetensors"), metadata=meta)
        return
    names, where = sorted(stored), {}
    for s in range(shards):
        # DeepSeek-V3's own files count "00001 of 000163": readers must go by the index, not by the pattern.
        file = f"model-{s + 1:05d}-of-{shards:06d}.safetensors"
        part = names[len(names) * s // shards:len(names) * (s + 1) // shards]
        save_file({k: stored[k] for k in part}, os.path.join(path, file), metadata=meta)
        where.update({k: file for k in part})
    size = sum(v.numel() * v.element_size() for v in stored.values())
    with open(os.path.join(path, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": size}, "weight_map": where}, f, indent=1)


def make(name, out):
    cfg, base_seed, storage, shards, bias_mean = MODELS[name]
    ref_cfg = flat_rope(cfg)
    for seed in range(base_seed, base_seed + 100):
        stored, meant = store(make_weights(cfg, seed, bias_mean), storage)
        rng = np.random.default_rng(seed)
        prompt = [0] + [int(t) for t in rng.integers(3, VOCAB, PROMPT - 1)]
        model = build(cfg, meant)
        logits, greedy, decode = run(model, prompt)
        full = np.concatenate([logits, decode[1:]])
        top = np.sort(decode, -1)
        margin = float((top[:, -1] - top[:, -2]).min())
        weights = {k: v.numpy() for k, v in meant.items()}
        ref, route_margin, uses = reference.forward(weights, ref_cfg, prompt + greedy[:-1])
        diff = float(np.abs(ref - full).max())
        print(f"{name} seed {seed}: greedy margin {margin:.2e}, routing margin {route_margin:.2e}, "
              f"|f32 - f64| {diff:.2e}, logits std {full.std():.2f}, {len(set(greedy))} different ids", flush=True)
        if margin < MIN_GREEDY or route_margin < MIN_ROUTE or len(set(greedy)) < 12:
            continue
        if diff > 2e-3:
            raise SystemExit(f"{name}: transformers and reference.py differ by {diff}")
        break
    else:
        raise SystemExit(f"{name}: no good seed")
    cost = {}
    for option in mistakes(cfg, storage):
        wrong, _, _ = reference.forward(weights, ref_cfg, prompt, **{option: True})
        cost[option] = round(float(np.abs(wrong - ref[:PROMPT]).max()), 6)
        # s + b > 0 everywhere: masking with 0.0 must make no difference, except in v3_negbias.
        expect_zero = option == "mask_with_zero" and bias_mean >= 0
        harmless = option == "latent_eps_from_config"
        assert (cost[option] < 1e-3 if harmless else cost[option] == 0 if expect_zero else cost[option] > 0.5), cost
    print("   ", cost)
    path = os.path.join(out, name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    save_weights(path, stored, shards)
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(cfg, f, indent=2)
        f.write("\n")
    with open(os.path.join(path, "generation_config.json"), "w") as f:
        json.dump({"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1, "do_sample": True,
                   "temperature": 0.3, "top_p": 0.95}, f, indent=2)
        f.write("\n")
    save_file({"prompt_ids": torch.tensor(prompt, dtype=torch.int32), "logits": torch.from_numpy(logits),
               "greedy_ids": torch.tensor(greedy, dtype=torch.int32), "decode_logits": torch.from_numpy(decode)},
              os.path.join(path, "expected.safetensors"))
    with open(os.path.join(path, "expected.json"), "w") as f:
        json.dump({
            "model": name, "seed": seed, "storage": storage, "computed_in": "float32",
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "prompt_ids": prompt, "greedy_ids": greedy,
            "greedy_note": "argmax at every step, end-of-sequence ignored",
            "min_greedy_margin": margin,
            "min_routing_margin": None if np.isinf(route_margin) else float(route_margin),
            "max_abs_f32_minus_f64": diff,
            "logits_std": float(full.std()),
            "expert_uses": [uses.get(e, 0) for e in range(cfg.get("n_routed_experts", 0))],
            "max_abs_change_by_mistake": cost,
        }, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    parser.add_argument("name", nargs="*", default=[])
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    for n in args.name or MODELS:
        make(n, args.out)
