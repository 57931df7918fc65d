"""Writes the seed corpora of gguf_fuzz, safetensors_fuzz, hf_config_fuzz and kv_segment_fuzz (run from the repository's root).

Small and made here, so that mutations reach every field soon. Needs only Python's standard library.
"""
import json
import os
import struct


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
SCALARS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}


def value(kind, item):
    return string(item) if kind == STR else struct.pack("<" + SCALARS[kind], item)


def scalar(key, kind, item):
    return string(key) + struct.pack("<I", kind) + value(kind, item)


def array(key, kind, items):
    return string(key) + struct.pack("<IIQ", ARR, kind, len(items)) + b"".join(value(kind, i) for i in items)


def gguf(entries, tensors, version=3, alignment=32):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(entries)) + b"".join(entries)
    offset = 0
    for name, ne, kind, size in tensors:
        out += string(name) + struct.pack("<I", len(ne)) + b"".join(struct.pack("<Q", n) for n in ne)
        out += struct.pack("<IQ", kind, offset)
        offset += -(-size // alignment) * alignment
    if tensors:
        out += bytes(-len(out) % alignment) + bytes(offset)
    return out


def common(arch):
    return [scalar("general.architecture", STR, arch), scalar(arch + ".block_count", U32, 2),
            scalar(arch + ".context_length", U32, 64), scalar(arch + ".embedding_length", U32, 8),
            scalar(arch + ".feed_forward_length", U32, 16), scalar(arch + ".attention.head_count", U32, 2),
            scalar(arch + ".attention.layer_norm_rms_epsilon", F32, 1e-6)]


def deepseek2():
    a = "deepseek2"
    return common(a) + [
        scalar(a + ".attention.head_count_kv", U32, 1), scalar(a + ".attention.kv_lora_rank", U32, 8),
        scalar(a + ".attention.q_lora_rank", U32, 8), scalar(a + ".attention.key_length", U32, 12),
        scalar(a + ".attention.value_length", U32, 8), scalar(a + ".attention.key_length_mla", U32, 8),
        scalar(a + ".attention.value_length_mla", U32, 4), scalar(a + ".rope.dimension_count", U32, 4),
        scalar(a + ".rope.scaling.type", STR, "yarn"), scalar(a + ".rope.scaling.factor", F32, 40.0),
        scalar(a + ".rope.scaling.original_context_length", U32, 16),
        scalar(a + ".rope.scaling.yarn_log_multiplier", F32, 0.1), scalar(a + ".leading_dense_block_count", U32, 1),
        scalar(a + ".expert_count", U32, 4), scalar(a + ".expert_used_count", U32, 2),
        scalar(a + ".expert_shared_count", U32, 1), scalar(a + ".expert_feed_forward_length", U32, 8),
        scalar(a + ".expert_group_count", U32, 2), scalar(a + ".expert_group_used_count", U32, 1),
        scalar(a + ".expert_gating_func", U32, 2), scalar(a + ".expert_weights_norm", BOOL, 1),
        scalar(a + ".expert_weights_scale", F32, 2.5)]


TOKENIZER = [scalar("tokenizer.ggml.model", STR, "gpt2"), scalar("tokenizer.ggml.pre", STR, "deepseek-v3"),
             array("tokenizer.ggml.tokens", STR, ["a", "b", "ab"]), array("tokenizer.ggml.token_type", I32, [1, 1, 3]),
             array("tokenizer.ggml.merges", STR, ["a b"]), scalar("tokenizer.ggml.bos_token_id", U32, 0),
             scalar("tokenizer.ggml.eos_token_id", U32, 2), scalar("tokenizer.ggml.add_bos_token", BOOL, 1)]
TABLE = [("token_embd.weight", [8, 3], 0, 96), ("output.weight", [8, 3], 1, 48)]

nested = string("n") + struct.pack("<IIQ", ARR, ARR, 2) + struct.pack("<IQI", U32, 1, 7) + struct.pack("<IQ", STR, 1) + string("x")
every = [scalar("k%d" % kind, kind, 1) for kind in SCALARS] + [scalar("s", STR, "text"), nested]

GGUF = {
    "empty": gguf([], []),
    "deepseek2": gguf(deepseek2() + TOKENIZER, TABLE),
    "llama": gguf(common("llama") + TOKENIZER, TABLE),
    "qwen2-v2": gguf(common("qwen2"), TABLE[:1], version=2),
    "every-type": gguf(every, [("q", [32, 2], 8, 68), ("k", [256], 12, 144)]),
    "aligned": gguf([scalar("general.alignment", U32, 64)], TABLE, alignment=64),
    "vocabulary": gguf(TOKENIZER, []),
}


def safetensors(tensors, metadata=None):
    header, offset = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, shape, size in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


SAFETENSORS = {
    "empty": safetensors([]),
    "few": safetensors([("a", "F32", [2, 3], 24), ("b", "BF16", [4], 8), ("c", "F8_E4M3", [3], 3)], {"format": "pt"}),
    "odd": safetensors([("s", "I64", [], 8), ("e", "F16", [0, 5], 0), ("t", "I8", [1, 1, 2], 2)]),
}

V3 = dict(architectures=["DeepseekV3ForCausalLM"], vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
          num_attention_heads=2, max_position_embeddings=64, moe_intermediate_size=8, n_shared_experts=1,
          n_routed_experts=4, num_experts_per_tok=2, n_group=2, topk_group=1, first_k_dense_replace=1, q_lora_rank=4,
          kv_lora_rank=8, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4, rope_theta=10000.0,
          rope_scaling=dict(type="yarn", factor=40, mscale=1.0, mscale_all_dim=1.0, original_max_position_embeddings=16),
          quantization_config=dict(quant_method="fp8", fmt="e4m3", weight_block_size=[128, 128]))
V2 = dict(V3, architectures=["DeepseekV2ForCausalLM"], topk_method="group_limited_greedy", q_lora_rank=None,
          quantization_config=None, rope_scaling=None)
GLM = dict(V3, architectures=["Glm4MoeLiteForCausalLM"], mlp_layer_types=["dense", "sparse"], quantization_config=None,
           rope_scaling=None, rope_parameters=dict(rope_type="default", rope_theta=1e6))
LLAMA = dict(architectures=["LlamaForCausalLM"], vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
             num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=True,
             rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                               original_max_position_embeddings=16))
QWEN = dict(LLAMA, architectures=["Qwen2ForCausalLM"], rope_scaling=dict(type="linear", factor=2.0),
            use_sliding_window=False, layer_types=["full_attention"])
CONFIGS = {name: json.dumps(config, separators=(",", ":")).encode()
           for name, config in dict(v3=V3, v2=V2, glm=GLM, llama=LLAMA, qwen2=QWEN).items()}



def superblock(layers=3, row_bytes=256, slots=5, dtype=3, version=1):
    return (b"\xa0fathomKV" + struct.pack("<IIQQIIIIqqQqIIQQ", version, 4096, 1, 2, layers, 100, row_bytes, dtype,
                                          4096 + layers * 64 * row_bytes, slots, 12, 1700000000, 0, 0, 0, 0))


def slot_header(layers=3, count=64, state=1):
    tokens = [100 + i if i < count else 0 for i in range(64)]
    return (bytes([0x20 + layers - 1]) + b"fathomSL" +
            struct.pack("<IIQQQqIIII", 1, state, 0x1111, 0x2222, 77, 1700000000, layers, 256, 0, 0) + bytes(32) +
            struct.pack("<6Qii64i8x", 1, 2, 3, 4, 5, 6, 128, count, *tokens) + struct.pack("<%dQ" % layers, *range(layers)))


# Their first byte is kv_segment_fuzz's choice; it fits the checksums itself.
SEGMENTS = {
    "superblock": superblock(), "superblock-newer": superblock(version=2), "superblock-one": superblock(1, 64, 1, 1),
    "slot": slot_header(), "slot-partial": slot_header(count=7), "slot-one-layer": slot_header(1),
    "slot-freed": slot_header(state=2), "slot-encrypted": b"\x62" + slot_header()[1:],
}

for folder, seeds in (("gguf", GGUF), ("safetensors", SAFETENSORS), ("hf_config", CONFIGS), ("kv_segment", SEGMENTS)):
    os.makedirs(f"fuzz/corpus/{folder}", exist_ok=True)
    for name, data in seeds.items():
        with open(f"fuzz/corpus/{folder}/{name}", "wb") as out:
            out.write(data)
