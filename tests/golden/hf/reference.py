"""A second witness: the forward passes of the tiny golden models in plain numpy, float64.

Written from the published formulas (DeepSeek-V2 paper section 2, DeepSeek-V3 paper section 2, the YaRN
paper, the authors' inference code), not from transformers, so that an error shared by the goldens and the
engine has to be made twice. Slow, whole sequences only, one screen a family. `options` switches single
features to a wrong setting: make_models.py uses that to show that the goldens notice.
"""

import math

import numpy as np


def rms_norm(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def mlp(x, w, p):
    return (silu(x @ w[p + "gate_proj.weight"].T) * (x @ w[p + "up_proj.weight"].T)) @ w[p + "down_proj.weight"].T


def rope_frequencies(cfg, dim, options):
    """Rotation per position and pair: theta^(-2i/dim), then YaRN or Llama-3 blending if configured."""
    theta = cfg["rope_theta"]
    freq = theta ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    s = cfg.get("rope_scaling")
    if not s or options.get("no_rope_scaling"):
        return freq
    kind = s.get("type", s.get("rope_type"))
    if kind == "yarn":
        def pair_of(rotations):  # the pair that turns this often within the original context
            return dim * math.log(s["original_max_position_embeddings"] / (rotations * 2 * math.pi)) / (2 * math.log(theta))
        low = max(math.floor(pair_of(s["beta_fast"])), 0)
        high = min(math.ceil(pair_of(s["beta_slow"])), dim - 1)
        ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
        return freq * (1 - ramp) + freq / s["factor"] * ramp
    if kind == "llama3":
        wavelength = 2 * math.pi / freq
        lo, hi, n = s["low_freq_factor"], s["high_freq_factor"], s["original_max_position_embeddings"]
        smooth = np.clip((n / wavelength - lo) / (hi - lo), 0, 1)
        return freq * smooth + freq / s["factor"] * (1 - smooth)
    raise ValueError(kind)


def rotate(x, angle, interleaved):
    """x [T, heads, dim], angle [T, dim/2]. Pairs are (2i, 2i+1) if interleaved, else (i, i + dim/2)."""
    c, s = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
    half = x.shape[-1] // 2
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    out = np.empty_like(x)
    if interleaved:
        out[..., 0::2], out[..., 1::2] = a * c - b * s, a * s + b * c
    else:
        out[..., :half], out[..., half:] = a * c - b * s, a * s + b * c
    return out


def attend(q, k, v, scale):
    """q [T, H, d], k [T, H, d], v [T, H, e]: causal softmax attention, [T, H * e]."""
    t = q.shape[0]
    score = np.einsum("qhd,khd->hqk", q, k) * scale
    score = np.where(np.tril(np.ones((t, t), bool)), score, -np.inf)
    return np.einsum("hqk,khe->qhe", softmax(score), v).reshape(t, -1)


def mla(x, w, p, cfg, angle, options):
    """Multi-head latent attention, expanded form."""
    t, heads = x.shape[0], cfg["num_attention_heads"]
    nope, rope, vd, rank = (cfg[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    # The authors' model builds both latent norms with eps 1e-6, whatever rms_norm_eps says.
    eps = cfg["rms_norm_eps"] if options.get("latent_eps_from_config") else 1e-6
    if cfg.get("q_lora_rank"):
        q = rms_norm(x @ w[p + "q_a_proj.weight"].T, w[p + "q_a_layernorm.weight"], eps) @ w[p + "q_b_proj.weight"].T
    else:
        q = x @ w[p + "q_proj.weight"].T
    q = q.reshape(t, heads, nope + rope)
    ckv = x @ w[p + "kv_a_proj_with_mqa.weight"].T
    latent = rms_norm(ckv[:, :rank], w[p + "kv_a_layernorm.weight"], eps)
    interleaved = not options.get("half_split_rope")
    k_rope = rotate(ckv[:, None, rank:], angle, interleaved)
    q = np.concatenate([q[..., :nope], rotate(q[..., nope:], angle, interleaved)], -1)
    kv = (latent @ w[p + "kv_b_proj.weight"].T).reshape(t, heads, nope + vd)
    k = np.concatenate([kv[..., :nope], np.broadcast_to(k_rope, (t, heads, rope))], -1)
    scale = (nope + rope) ** -0.5
    s = cfg.get("rope_scaling")
    if s and s.get("mscale_all_dim") and not options.get("no_mscale"):
        scale *= (0.1 * s["mscale_all_dim"] * math.log(s["factor"]) + 1) ** 2
    return attend(q, k, kv[..., nope:], scale) @ w[p + "o_proj.weight"].T


def route(x, w, p, cfg, options, margins):
    """Chosen experts [T, k] and their weights [T, k]. Appends how clear each choice was to `margins`."""
    k, groups = cfg["num_experts_per_tok"], cfg.get("n_group") or 1
    keep = cfg.get("topk_group") or 1
    sigmoid = cfg.get("scoring_func", "softmax") == "sigmoid" or options.get("sigmoid_gate")
    logits = x @ w[p + "gate.weight"].T
    score = 1 / (1 + np.exp(-logits)) if sigmoid else softmax(logits)
    choice = score
    if sigmoid and not options.get("no_gate_bias"):
        choice = score + w[p + "gate.e_score_correction_bias"]
    if groups > 1 and not options.get("no_groups"):
        g = choice.reshape(len(x), groups, -1)
        rank = np.sort(g, -1)[..., -2:].sum(-1) if sigmoid else g.max(-1)
        order = np.sort(rank, -1)[:, ::-1]
        margins.append((order[:, keep - 1] - order[:, keep]).min())
        keep_mask = rank >= order[:, keep - 1, None]
        excluded = 0.0 if options.get("mask_with_zero") or not sigmoid else -np.inf
        choice = np.where(keep_mask[..., None], g, excluded).reshape(len(x), -1)
    order = np.argsort(-choice, -1, kind="stable")
    if choice.shape[1] > k:
        sorted_choice = np.take_along_axis(choice, order, -1)
        margins.append((sorted_choice[:, k - 1] - sorted_choice[:, k]).min())
    chosen = order[:, :k]
    weight = np.take_along_axis(choice if options.get("biased_weights") else score, chosen, -1)
    if cfg.get("norm_topk_prob") and not options.get("no_renorm"):
        weight = weight / (weight.sum(-1, keepdims=True) + 1e-20)
    return chosen, weight * (1.0 if options.get("no_routed_scale") else cfg["routed_scaling_factor"])


def moe(x, w, p, cfg, options, margins, counts):
    chosen, weight = route(x, w, p, cfg, options, margins)
    out = mlp(x, w, p + "shared_experts.") if not options.get("no_shared") else np.zeros_like(x)
    for e in range(cfg["n_routed_experts"]):
        t, slot = np.nonzero(chosen == e)
        counts[e] = counts.get(e, 0) + len(t)
        if len(t):
            out[t] += weight[t, slot, None] * mlp(x[t], w, f"{p}experts.{e}.")
    return out


def deepseek(w, cfg, ids, options, margins, counts):
    eps = cfg["rms_norm_eps"]
    x = w["model.embed_tokens.weight"][ids]
    angle = np.arange(len(ids))[:, None] * rope_frequencies(cfg, cfg["qk_rope_head_dim"], options)
    for i in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{i}."
        x = x + mla(rms_norm(x, w[p + "input_layernorm.weight"], eps), w, p + "self_attn.", cfg, angle, options)
        h = rms_norm(x, w[p + "post_attention_layernorm.weight"], eps)
        dense = i < cfg["first_k_dense_replace"]
        x = x + (mlp(h, w, p + "mlp.") if dense else moe(h, w, p + "mlp.", cfg, options, margins, counts))
    return rms_norm(x, w["model.norm.weight"], eps)


def llama(w, cfg, ids, options):
    """Llama and Qwen2: grouped-query attention, half-split RoPE, optional q/k/v biases."""
    eps, heads, kv_heads = cfg["rms_norm_eps"], cfg["num_attention_heads"], cfg["num_key_value_heads"]
    dim = cfg.get("head_dim") or cfg["hidden_size"] // heads
    t = len(ids)
    angle = np.arange(t)[:, None] * rope_frequencies(cfg, dim, options)
    x = w["model.embed_tokens.weight"][ids]
    for i in range(cfg["num_hidden_layers"]):
        p = f"model.layers.{i}."
        h = rms_norm(x, w[p + "input_layernorm.weight"], eps)
        q, k, v = (h @ w[f"{p}self_attn.{n}_proj.weight"].T
                   + (0 if options.get("no_bias") else w.get(f"{p}self_attn.{n}_proj.bias", 0)) for n in "qkv")
        q, k, v = q.reshape(t, heads, dim), k.reshape(t, kv_heads, dim), v.reshape(t, kv_heads, dim)
        interleaved = bool(options.get("interleaved_rope"))
        q, k = rotate(q, angle, interleaved), rotate(k, angle, interleaved)
        group = heads // kv_heads
        x = x + attend(q, k.repeat(group, 1), v.repeat(group, 1), dim ** -0.5) @ w[p + "self_attn.o_proj.weight"].T
        x = x + mlp(rms_norm(x, w[p + "post_attention_layernorm.weight"], eps), w, p + "mlp.")
    return rms_norm(x, w["model.norm.weight"], eps)


def forward(weights, cfg, ids, **options):
    """Logits [T, vocab] in float64, the smallest routing margin (inf if dense), and uses per expert."""
    w = {k: np.asarray(v, np.float64) for k, v in weights.items()}
    margins, counts = [np.inf], {}
    if "kv_lora_rank" in cfg:
        h = deepseek(w, cfg, np.asarray(ids), options, margins, counts)
    else:
        h = llama(w, cfg, np.asarray(ids), options)
    head = w["model.embed_tokens.weight"] if cfg.get("tie_word_embeddings") else w["lm_head.weight"]
    return h @ head.T, min(margins), counts
