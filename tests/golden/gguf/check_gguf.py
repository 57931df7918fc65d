"""Asks llama.cpp whether the GGUF goldens say what the Hugging Face goldens say.

    python check_gguf.py LLAMA_SERVER [--hf DIR] [--gguf DIR]

For each file: 64 greedy ids after the golden prompt, and the log-probabilities of the five best tokens at each
step, against expected.safetensors. F32 cache, no flash attention. Needs numpy and safetensors.
"""

import argparse
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request

import numpy as np
from safetensors.numpy import load_file

FILES = {"v3-mainline": "v3", "v3-legacy": "v3", "v3-split-00001-of-00003": "v3", "v2lite-mainline": "v2lite",
         "llama": "llama", "qwen2": "qwen2", "qwen2-version2": "qwen2"}


def post(port, path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as r:
        return json.load(r)


class Server:
    """llama-server on a free loopback port for as long as the `with` lasts."""

    def __init__(self, binary, model, *extra):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.command = [binary, "-m", model, "--host", "127.0.0.1", "--port", str(self.port), "-c", "512", "-np", "1",
                        "-t", "2", "-ctk", "f32", "-ctv", "f32", "-fa", "off", *extra]

    def __enter__(self):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(600):
            if self.process.poll() is not None:
                self.log.seek(0)
                raise RuntimeError(self.log.read()[-1500:])
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1):
                    return self
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("llama-server did not come up")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("server")
    parser.add_argument("--hf", default=os.path.join(here, "..", "hf"))
    parser.add_argument("--gguf", default=here)
    args = parser.parse_args()
    bad = 0
    for file, model in FILES.items():
        want = load_file(os.path.join(args.hf, model, "expected.safetensors"))
        # llama.cpp asks for q_lora_rank unless the model has V2-Lite's 26 or 27 layers: say that it is absent.
        extra = ["--override-kv", "deepseek2.attention.q_lora_rank=int:0"] if model == "v2lite" else []
        try:
            with Server(args.server, os.path.join(args.gguf, file + ".gguf"), *extra) as s:
                prompt, greedy = want["prompt_ids"].tolist(), want["greedy_ids"].tolist()
                ids, steps = [], []
                for i in range(len(greedy)):  # one token a request: an end-of-sequence must not stop us
                    got = post(s.port, "/completion", {"prompt": prompt + greedy[:i], "n_predict": 1, "n_probs": 5,
                                                       "temperature": 0, "cache_prompt": True, "return_tokens": True})
                    ids += got["tokens"]
                    # It keeps back the probabilities of a token that is no whole UTF-8 character.
                    steps.append(got.get("completion_probabilities", [{"top_logprobs": []}])[0]["top_logprobs"])
        except RuntimeError as e:
            print(f"{file}: llama-server refused it: {e}")
            bad += 1
            continue
        logits = want["decode_logits"].astype(np.float64)
        logprob = logits - np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1, keepdims=True)) \
            - logits.max(-1, keepdims=True)
        worst = max(abs(top["logprob"] - logprob[i, top["id"]]) for i, tops in enumerate(steps) for top in tops)
        same = ids == greedy
        print(f"{file}: greedy ids {'equal' if same else 'DIFFER'}, worst log-probability difference {worst:.1e} "
              f"over {sum(map(bool, steps))} steps")
        bad += not same or worst > 5e-3
    raise SystemExit(bad)


if __name__ == "__main__":
    main()
