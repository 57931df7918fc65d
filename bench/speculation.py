#!/usr/bin/env python3
"""What guessing ahead gains on edits and costs elsewhere: `fathom serve` with and without it, the same requests in turns.

    python3 bench/speculation.py --fathom build/release/fathom -m smollm2-135m.gguf --speculate lookup
    python3 bench/speculation.py --fathom build/release/fathom -m models/fathom-nano/fathom-nano-q8_0.gguf --speculate mtp

Two servers stand side by side and are asked in turns, so that a machine that swings swings for both. `edit`: a piece of
code or text, to be given back with a small change. `new`: a question whose answer repeats little. Greedy, and drawn with a
fixed seed; the answers must be the same, or the run fails. Prints a Markdown table: decode tokens/s without and with, the
median of the pairs' ratios, and how many guesses were right. For a model of random weights, which repeats nothing by
itself, `fathom bench --speculate lookup` replays a given edit instead. Needs Python 3 and nothing else.
"""
import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys

CODE = '''def area(width, height):
    """Area of a rectangle."""
    if width < 0 or height < 0:
        raise ValueError("negative")
    return width * height


def perimeter(width, height):
    """Perimeter of a rectangle."""
    if width < 0 or height < 0:
        raise ValueError("negative")
    return 2 * (width + height)


def diagonal(width, height):
    """Diagonal of a rectangle."""
    if width < 0 or height < 0:
        raise ValueError("negative")
    return (width ** 2 + height ** 2) ** 0.5
'''
CONFIG = '''server:
  host: 127.0.0.1
  port: 8080
  workers: 4
  timeout_seconds: 30
database:
  host: db.example.org
  port: 5432
  user: reader
  pool_size: 16
  timeout_seconds: 5
logging:
  level: info
  file: /var/log/service.log
  rotate_megabytes: 100
'''
LETTER = '''Dear Ms Keller,

Thank you for your letter of 3 March. We have looked at the roof of the building in Garden Street and found that eleven
tiles have to be replaced. The work will take two days and will cost 480 euros. We can begin on Monday, 12 April, at eight
o'clock in the morning. Please tell us by the end of March whether that day suits you.

Yours sincerely,
Paul Brandt
'''
PROMPTS = {
    "edit": [
        "Rename the function area to surface and give back the whole code.\n\n" + CODE,
        "Give back this code with the word negative replaced by below zero.\n\n" + CODE,
        "Change the port of the server to 9090 and give back the whole file.\n\n" + CONFIG,
        "Repeat this letter, with Tuesday, 13 April instead of Monday.\n\n" + LETTER,
    ],
    "new": [
        "Write a short story about a lighthouse keeper and his dog.",
        "Explain how rain is made, step by step.",
        "What should one think of when buying a used bicycle?",
        "Write a poem about the sea in autumn.",
    ],
}


class Server:
    def __init__(self, args, speculate):
        command = [args.fathom, "serve", "-m", args.model, "-t", str(args.threads), "--port", "0", "--speculate", speculate,
                   "--cache-ram", "1GiB"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.search(r"http://([^:/]+):(\d+)", line)
        if not found:
            raise SystemExit(f"the server did not start: {line}")
        self.host, self.port = found[1], int(found[2])

    def ask(self, prompt, tokens, temperature):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=600)
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, "temperature": temperature, "seed": 7}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = json.loads(connection.getresponse().read())
        if "choices" not in reply:
            raise SystemExit(f"refused: {reply}")
        message = reply["choices"][0]["message"]
        return (message.get("reasoning_content"), message["content"]), reply["timings"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fathom", required=True)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--speculate", default="auto", choices=["auto", "lookup", "mtp"])
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-n", "--tokens", type=int, default=200)
    parser.add_argument("-r", "--rounds", type=int, default=3)
    args = parser.parse_args()
    servers = [Server(args, "off"), Server(args, args.speculate)]
    print(f"| {args.speculate} | temperature | without tok/s | with tok/s | ratio (median of pairs) | pairs | right |")
    print("|---|---|---|---|---|---|---|")
    try:
        for what, prompts in PROMPTS.items():
            for temperature in (0, 0.8):
                rates, ratios, drafted, right = ([], []), [], 0, 0
                for round_ in range(args.rounds + 1):
                    for prompt in prompts:
                        answers, speeds = [None, None], [0.0, 0.0]
                        for which in ((0, 1) if round_ % 2 else (1, 0)):
                            answers[which], timings = servers[which].ask(prompt, args.tokens, temperature)
                            speeds[which] = timings["predicted_per_second"]
                            if round_ and which == 1:
                                drafted += timings.get("draft_n", 0)
                                right += timings.get("draft_n_accepted", 0)
                        if answers[0] != answers[1]:
                            sys.exit(f"different answers to {prompt!r}:\n{answers[0]}\n{answers[1]}")
                        # The first round warms up; answers of a few tokens say nothing.
                        if round_ and timings["predicted_n"] >= 32:
                            for which in (0, 1):
                                rates[which].append(speeds[which])
                            ratios.append(speeds[1] / speeds[0])
                if ratios:
                    print(f"| {what} | {temperature} | {statistics.median(rates[0]):.1f} | {statistics.median(rates[1]):.1f} | "
                          f"{statistics.median(ratios):.2f} | {len(ratios)} | {right} of {drafted} |", flush=True)
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
