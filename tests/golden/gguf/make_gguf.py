"""Writes the tiny Hugging Face goldens as GGUF, laid out as llama.cpp's converter lays them out.

    python make_gguf.py [--hf DIR] [--out DIR]

All tensors F32: the logits must equal those in ../hf/<model>/expected.safetensors. Needs gguf, safetensors, numpy.
"""

import argparse
import glob
import json
import math
import os

import gguf
import numpy as np
from safetensors.numpy import load_file

import tiny_tokenizer


def read_model(hf, name):
    path = os.path.join(hf, name)
    with open(os.path.join(path, "config.json")) as f:
        cfg = json.load(f)
    w = {}
    for file in sorted(glob.glob(os.path.join(path, "model*.safetensors"))):
        w.update(load_file(file))
    return cfg, w


def write_common(g, cfg, name, kv_heads):
    g.add_name(f"fathom golden {name}")
    g.add_block_count(cfg["num_hidden_layers"])
    g.add_context_length(cfg["max_position_embeddings"])
    g.add_embedding_length(cfg["hidden_size"])
    g.add_feed_forward_length(cfg["intermediate_size"])
    g.add_head_count(cfg["num_attention_heads"])
    g.add_head_count_kv(kv_heads)
    g.add_rope_freq_base(float(cfg["rope_theta"]))
    g.add_layer_norm_rms_eps(cfg["rms_norm_eps"])
    g.add_file_type(gguf.LlamaFileType.ALL_F32)
    g.add_vocab_size(cfg["vocab_size"])


def write_tokenizer(g, family, pre, add_bos):
    text, kinds = tiny_tokenizer.tokens(family)
    g.add_tokenizer_model("gpt2")
    g.add_tokenizer_pre(pre)
    g.add_token_list(text)
    g.add_token_types(kinds)
    g.add_token_merges(tiny_tokenizer.MERGES)
    g.add_bos_token_id(0)
    g.add_eos_token_id(1)
    g.add_pad_token_id(2)
    g.add_add_bos_token(add_bos)


def deepseek2(out, cfg, w, name, legacy=False, split=0, alignment=0):
    """`legacy`: one attn_kv_b tensor and decompressed head sizes, as files of early 2025 and ik_llama.cpp's have."""
    g = gguf.GGUFWriter(out, "deepseek2", split_max_tensors=split)
    if alignment:
        g.add_custom_alignment(alignment)
    heads, nope, rope, vd, rank = (cfg[k] for k in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim",
                                                     "v_head_dim", "kv_lora_rank"))
    write_common(g, cfg, name, heads if legacy else 1)
    g.add_expert_used_count(cfg["num_experts_per_tok"])
    g.add_expert_group_count(cfg["n_group"])
    g.add_expert_group_used_count(cfg["topk_group"])
    g.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID if cfg["scoring_func"] == "sigmoid"
                             else gguf.ExpertGatingFuncType.SOFTMAX)
    g.add_leading_dense_block_count(cfg["first_k_dense_replace"])
    if cfg["q_lora_rank"]:
        g.add_q_lora_rank(cfg["q_lora_rank"])
    g.add_kv_lora_rank(rank)
    if legacy:
        g.add_key_length(nope + rope)
        g.add_value_length(vd)
    else:
        g.add_key_length(rank + rope)
        g.add_value_length(rank)
        g.add_key_length_mla(nope + rope)
        g.add_value_length_mla(vd)
    g.add_expert_feed_forward_length(cfg["moe_intermediate_size"])
    g.add_expert_count(cfg["n_routed_experts"])
    g.add_expert_shared_count(cfg["n_shared_experts"])
    g.add_expert_weights_scale(cfg["routed_scaling_factor"])
    if cfg["norm_topk_prob"]:
        g.add_expert_weights_norm(True)
    g.add_rope_dimension_count(rope)
    if s := cfg.get("rope_scaling"):
        g.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        g.add_rope_scaling_factor(s["factor"])
        g.add_rope_scaling_orig_ctx_len(s["original_max_position_embeddings"])
        g.add_rope_scaling_yarn_beta_fast(s["beta_fast"])
        g.add_rope_scaling_yarn_beta_slow(s["beta_slow"])
        g.add_rope_scaling_yarn_log_mul(0.1 * s["mscale_all_dim"])  # times 0.1: a convention of this arch alone
    write_tokenizer(g, "deepseek", "deepseek-v3" if cfg["model_type"] == "deepseek_v3" else "deepseek-llm", True)

    g.add_tensor("token_embd.weight", w["model.embed_tokens.weight"])
    g.add_tensor("output_norm.weight", w["model.norm.weight"])
    g.add_tensor("output.weight", w["lm_head.weight"])
    same = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
            "self_attn.q_proj": "attn_q", "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm",
            "self_attn.q_b_proj": "attn_q_b", "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
            "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.o_proj": "attn_output",
            "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
            "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
            "mlp.shared_experts.down_proj": "ffn_down_shexp"}
    for i in range(cfg["num_hidden_layers"]):
        p, b = f"model.layers.{i}.", f"blk.{i}."
        for theirs, ours in same.items():
            if p + theirs + ".weight" in w:
                g.add_tensor(f"{b}{ours}.weight", w[p + theirs + ".weight"])
        kv_b = w[p + "self_attn.kv_b_proj.weight"]
        if legacy:
            g.add_tensor(b + "attn_kv_b.weight", kv_b)
        else:
            per_head = kv_b.reshape(heads, nope + vd, rank)
            g.add_tensor(b + "attn_k_b.weight", np.ascontiguousarray(per_head[:, :nope].transpose(0, 2, 1)))
            g.add_tensor(b + "attn_v_b.weight", np.ascontiguousarray(per_head[:, nope:]))
        if i >= cfg["first_k_dense_replace"]:
            if (bias := p + "mlp.gate.e_score_correction_bias") in w:
                g.add_tensor(b + "exp_probs_b.bias", w[bias])
            for n in ("gate", "up", "down"):
                stack = [w[f"{p}mlp.experts.{e}.{n}_proj.weight"] for e in range(cfg["n_routed_experts"])]
                g.add_tensor(f"{b}ffn_{n}_exps.weight", np.stack(stack))
    finish(g)


def permute(x, heads):
    """Llama's q and k rows: from halves (i, i + d/2) to adjacent pairs, as llama.cpp rotates this arch."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def llama3_factors(cfg, dim):
    """What llama.cpp divides each frequency by: the rope_freqs tensor."""
    s, out = cfg["rope_scaling"], []
    for freq in 1.0 / (cfg["rope_theta"] ** (np.arange(0, dim, 2, dtype=np.float32) / dim)):
        turns = s["original_max_position_embeddings"] * freq / (2 * math.pi)  # within the original context
        smooth = (turns - s["low_freq_factor"]) / (s["high_freq_factor"] - s["low_freq_factor"])
        smooth = min(max(smooth, 0.0), 1.0)
        out.append(1 / ((1 - smooth) / s["factor"] + smooth))
    return np.array(out, np.float32)


def llama_like(out, cfg, w, name, arch):
    g = gguf.GGUFWriter(out, arch)
    heads, kv = cfg["num_attention_heads"], cfg["num_key_value_heads"]
    write_common(g, cfg, name, kv)
    dim = cfg.get("head_dim") or cfg["hidden_size"] // heads
    if cfg.get("head_dim"):
        g.add_key_length(dim)
        g.add_value_length(dim)
    if arch == "llama":
        g.add_rope_dimension_count(dim)
    write_tokenizer(g, arch, "llama-bpe" if arch == "llama" else "qwen2", arch == "llama")
    if (cfg.get("rope_scaling") or {}).get("rope_type") == "llama3":
        g.add_tensor("rope_freqs.weight", llama3_factors(cfg, dim))
    g.add_tensor("token_embd.weight", w["model.embed_tokens.weight"])
    g.add_tensor("output_norm.weight", w["model.norm.weight"])
    if not cfg["tie_word_embeddings"]:
        g.add_tensor("output.weight", w["lm_head.weight"])
    names = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
             "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    for i in range(cfg["num_hidden_layers"]):
        for theirs, ours in names.items():
            for kind in ("weight", "bias"):
                if (key := f"model.layers.{i}.{theirs}.{kind}") not in w:
                    continue
                x = w[key]
                if arch == "llama" and ours in ("attn_q", "attn_k"):
                    x = permute(x, heads if ours == "attn_q" else kv)
                g.add_tensor(f"blk.{i}.{ours}.{kind}", np.ascontiguousarray(x))
    finish(g)


def finish(g):
    g.write_header_to_file()
    g.write_kv_data_to_file()
    g.write_tensors_to_file()
    g.close()


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hf", default=os.path.join(here, "..", "hf"))
    parser.add_argument("--out", default=here)
    args = parser.parse_args()

    def at(name):
        return os.path.join(args.out, name)

    cfg, w = read_model(args.hf, "v3")
    deepseek2(at("v3-mainline.gguf"), cfg, w, "v3")
    deepseek2(at("v3-legacy.gguf"), cfg, w, "v3", legacy=True)
    count = len(gguf.GGUFReader(at("v3-mainline.gguf")).tensors)
    deepseek2(at("v3-split.gguf"), cfg, w, "v3", split=-(-count // 3))
    cfg, w = read_model(args.hf, "v2lite")
    deepseek2(at("v2lite-mainline.gguf"), cfg, w, "v2lite", alignment=128)
    llama_like(at("llama.gguf"), *read_model(args.hf, "llama"), "llama", "llama")
    llama_like(at("qwen2.gguf"), *read_model(args.hf, "qwen2"), "qwen2", "qwen2")
    # GGUF 2 and 3 differ only in version 3's allowance for big-endian files.
    with open(at("qwen2.gguf"), "rb") as f:
        data = bytearray(f.read())
    assert data[:8] == b"GGUF\x03\0\0\0"
    data[4] = 2
    with open(at("qwen2-version2.gguf"), "wb") as f:
        f.write(data)


if __name__ == "__main__":
    main()
