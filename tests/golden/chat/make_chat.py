"""Renders conversations with models' own chat templates: what the prompt encoders must produce.

    python make_chat.py TEMPLATES [--tokenizer DIR] [--out FILE]

TEMPLATES holds NAME.jinja files (not ours, so not in the repository) and sources.json: for each name bos_token,
eos_token and where the template came from. DIR, if given, holds DeepSeek-V3's tokenizer.json: the ids of its
renderings are recorded too. Needs transformers and jinja2.
"""

import argparse
import hashlib
import json
import os

import jinja2
import transformers
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

SYSTEM = {"role": "system", "content": "You are terse."}
HELLO = {"role": "user", "content": "Hello! What is 6 × 7?"}
ANSWER = {"role": "assistant", "content": "42."}
MORE = {"role": "user", "content": "And in binary?\nOne line, please."}


def call(n, name, arguments):
    return {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}


ONE_CALL = {"role": "assistant", "content": None, "tool_calls": [call(0, "get_weather", '{"city": "Oslo"}')]}
TWO_CALLS = {"role": "assistant", "content": None, "tool_calls": [
    call(0, "get_weather", '{"city": "Oslo"}'), call(1, "get_time", '{"zone": "Europe/Oslo"}')]}
RESULT = {"role": "tool", "tool_call_id": "call_0", "content": '{"celsius": -3}'}
RESULT_2 = {"role": "tool", "tool_call_id": "call_1", "content": "09:15"}
CONVERSATIONS = {
    "single": [HELLO],
    "system": [SYSTEM, HELLO],
    "empty_system": [{"role": "system", "content": ""}, HELLO],
    "two_systems": [SYSTEM, {"role": "system", "content": "Answer in English."}, HELLO],
    "system_only": [SYSTEM],
    "multi_turn": [HELLO, ANSWER, MORE],
    "system_multi_turn": [SYSTEM, HELLO, ANSWER, MORE],
    "ends_with_assistant": [HELLO, ANSWER],
    "reasoning_content": [HELLO, {"role": "assistant", "content": "42.", "reasoning_content": "6 times 7 is 42."}, MORE],
    "think_in_content": [HELLO, {"role": "assistant", "content": "<think>\n6 times 7 is 42.\n</think>\n\n42."}, MORE],
    "spaces": [{"role": "user", "content": "  padded \n\n"}, {"role": "assistant", "content": "  reply  "}, MORE],
    "marker_in_text": [{"role": "user", "content": "What does <｜User｜> or <|im_end|> or <|eot_id|> mean?"}],
    "unicode": [{"role": "user", "content": "你好，世界！ 🙂 «naïve»"}],
    "two_users": [HELLO, MORE],
    "prefix": [HELLO, {"role": "assistant", "content": "The answer", "prefix": True}],
    "tool_call": [HELLO, ONE_CALL],
    "tool_result": [SYSTEM, HELLO, ONE_CALL, RESULT],
    "tool_answer": [HELLO, ONE_CALL, RESULT, {"role": "assistant", "content": "It is -3 °C."}, MORE],
    "two_calls": [HELLO, TWO_CALLS, RESULT, RESULT_2],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("templates")
    parser.add_argument("--tokenizer")
    parser.add_argument("--out", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected.json"))
    args = parser.parse_args()
    with open(os.path.join(args.templates, "sources.json")) as f:
        sources = json.load(f)
    real = Tokenizer.from_file(os.path.join(args.tokenizer, "tokenizer.json")) if args.tokenizer else None
    cases = []
    for name in sorted(sources):
        with open(os.path.join(args.templates, name + ".jinja"), newline="") as f:
            template = f.read()
        sources[name]["template_sha256"] = hashlib.sha256(template.encode()).hexdigest()
        special = {k: sources[name][k] for k in ("bos_token", "eos_token") if sources[name][k]}
        for talk, messages in CONVERSATIONS.items():
            if "tool" not in template and any(m["role"] == "tool" or "tool_calls" in m for m in messages):
                continue
            for prompt in (True, False):
                for thinking in (None, True, False) if "thinking" in template else (None,):
                    case = {"template": name, "conversation": talk, "add_generation_prompt": prompt}
                    if thinking is not None:
                        case["thinking"] = thinking
                    more = special if thinking is None else {**special, "thinking": thinking}
                    try:
                        # What apply_chat_template calls, less its dropping of `content: None`: DeepSeek's templates
                        # ask whether the content is none, and fail on a missing one.
                        case["text"] = render_jinja_template([messages], chat_template=template,
                                                             add_generation_prompt=prompt, **more)[0][0]
                    except (jinja2.TemplateError, TypeError) as e:
                        case["error"] = type(e).__name__  # the template itself cannot take this conversation
                    if real and name == "deepseek_v3" and "text" in case:
                        case["ids"] = real.encode(case["text"], add_special_tokens=False).ids
                    cases.append(case)
    with open(args.out, "w") as f:
        head = {"versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
                "templates": sources, "conversations": CONVERSATIONS}
        f.write(json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "cases": [\n')
        f.write(",\n".join("  " + json.dumps(c, ensure_ascii=False) for c in cases) + "\n ]\n}\n")
    print(len(cases), "cases,", sum("error" in c for c in cases), "errors")


if __name__ == "__main__":
    main()
