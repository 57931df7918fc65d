#!/usr/bin/env python3
"""Training as its users meet it: runs, interruptions, resumption, several ranks, and what goes wrong.

Usage: train_test.py FATHOM FATHOM_TRAIN SOURCE_DIR [unittest arguments]. Trains tiny models for seconds.
"""
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

FATHOM = TRAIN = SOURCE = None

RECIPE = """
name = "tiny"
seed = 3
[tokenizer]
path = "tokenizer.json"
[output]
path = "out"
[model]
vocab_size = 4096
hidden_size = 32
intermediate_size = 48
num_hidden_layers = 2
first_k_dense_replace = 1
num_attention_heads = 2
q_lora_rank = 16
kv_lora_rank = 16
qk_nope_head_dim = 8
qk_rope_head_dim = 8
v_head_dim = 8
n_routed_experts = 4
num_experts_per_tok = 2
n_shared_experts = 1
moe_intermediate_size = 16
num_nextn_predict_layers = 1
max_position_embeddings = 256
[batch]
tokens = 512
micro_tokens = 128
sequence_length = 64
[precision]
matmul = "f32"
[optimizer]
learning_rate = 0.02
adam_learning_rate = 0.02
newton_schulz_steps = 5
[schedule]
kind = "constant"
[[stage]]
name = "prose"
tokens = 3072
[[stage.data]]
kind = "text"
paths = ["text/*.txt"]
[[stage.data]]
kind = "tasks"
[validation]
tokens = 256
every_steps = 1
[[validation.data]]
kind = "text"
paths = ["text/*.txt"]
"""


def prose():
    """Sentences that a model can learn something about."""
    beasts, places = ["cat", "dog", "horse", "mouse", "owl"], ["mat", "hill", "roof", "river", "moon"]
    return "\n\n".join(" ".join(f"The {beasts[(i + j) % 5]} sat on the {places[(i * j) % 5]} and was happy."
                                for j in range(6)) for i in range(60))


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


class TrainTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fathom-train-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.mkdir(self.path("text"))
        with open(self.path("text/a.txt"), "w") as f:
            f.write(prose())
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(os.path.join(SOURCE, "models", "fathom-nano", name), self.path(name))
        self.recipe = self.path("tiny.toml")
        self.write(RECIPE)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, text):
        with open(self.recipe, "w") as f:
            f.write(text)

    @staticmethod
    def environment(**more):
        env = {k: v for k, v in os.environ.items()
               if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
                            "FATHOM_MASTER_PORT", "FATHOM_LOG") and
               not k.startswith(("OMPI_", "PMI_", "MPI_", "SLURM_", "TORCHELASTIC_"))}
        return env | more

    def command(self, *args, out="out"):
        return [TRAIN, self.recipe, "--threads", "1", "--set", f"output.path={self.path(out)}", *args]

    def start(self, *args, out="out", **env):
        return subprocess.Popen(self.command(*args, out=out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=self.environment(**env))

    def train(self, *args, out="out", status=0):
        done = subprocess.run(self.command(*args, out=out), capture_output=True, text=True, timeout=120,
                              env=self.environment())
        self.assertEqual(done.returncode, status, (args, done.stderr[-2000:]))
        return done.stderr

    def losses(self, text):
        return {int(step): float(loss) for step, loss in re.findall(r"step (\d+): validation loss ([\d.]+)", text)}

    def checkpoints(self, out="out"):
        folder = self.path(out, "checkpoints")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def model(self, out="out"):
        return digest(self.path(out, "model", "model.safetensors"))

    def wait_for(self, process, condition, what):
        end = time.monotonic() + 60
        while not condition():
            self.assertIsNone(process.poll(), f"ended before {what}")
            self.assertLess(time.monotonic(), end, f"no {what}")
            time.sleep(0.01)

    def test_loss_falls_and_stopping_changes_no_bit(self):
        whole = self.train(out="whole")
        losses = self.losses(whole)
        self.assertEqual(sorted(losses), list(range(7)))
        self.assertAlmostEqual(losses[0], 8.32, delta=0.3)  # ln 4096: it knows nothing yet
        self.assertLess(losses[6], losses[0] - 0.5)
        self.assertEqual(self.checkpoints("whole"), ["step-00000006"])
        with open(self.path("whole", "metrics.jsonl"), encoding="utf-8") as lines:
            noted = {e["step"]: e["loss"] for e in map(json.loads, lines) if e.get("event") == "validation"}
        self.assertEqual(sorted(noted), sorted(losses))
        self.assertAlmostEqual(noted[6], losses[6], delta=1e-4)
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            self.assertTrue(os.path.exists(self.path("whole", "model", name)), name)

        first = self.train("--steps", "3", out="parts")
        self.assertEqual(self.checkpoints("parts"), ["step-00000003"])
        self.assertFalse(os.path.exists(self.path("parts", "model")))
        second = self.train(out="parts")
        self.assertIn("step-00000003", second)
        self.assertEqual(self.losses(first) | self.losses(second), losses)
        self.assertEqual(self.model("parts"), self.model("whole"))
        for name in ("model.safetensors", "optimizer.safetensors"):
            self.assertEqual(digest(self.path("parts", "checkpoints", "step-00000006", name)),
                             digest(self.path("whole", "checkpoints", "step-00000006", name)), name)

        # The engine runs what came out.
        done = subprocess.run([FATHOM, "run", self.path("whole", "model"), "The cat", "--max-tokens", "4", "--temp",
                               "0"], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        # Done is done: the same command again changes nothing.
        before = self.model("whole")
        self.train(out="whole")
        self.assertEqual(self.model("whole"), before)

    def test_checkpointed_activations_and_bf16(self):
        """Recomputing activations is the same arithmetic; bf16 is nearly so."""
        want = self.losses(self.train("--steps", "2", out="plain"))
        again = self.losses(self.train("--steps", "2", "--set", "precision.checkpoint_activations=true", out="saving"))
        self.assertEqual(sorted(again), [0, 1, 2])
        for step in again:
            self.assertAlmostEqual(again[step], want[step], delta=1e-3)
        narrow = self.losses(self.train("--steps", "2", "--set", 'precision.matmul="bf16"', out="bf16"))
        for step in narrow:
            self.assertAlmostEqual(narrow[step], want[step], delta=0.1)

    def test_ctrl_c_saves_and_goes_on(self):
        whole = self.train(out="whole")
        process = self.start(out="parts")
        line = ""
        while "step 1: validation" not in line:
            line = process.stderr.readline()
            self.assertTrue(line, "it ended")
        process.send_signal(signal.SIGINT)
        _, text = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, text)
        self.assertIn("goes on from there", text)
        saved = self.checkpoints("parts")
        self.assertEqual(len(saved), 1)
        self.assertNotEqual(saved, ["step-00000006"])
        self.train(out="parts")
        self.assertEqual(self.model("parts"), self.model("whole"), whole)

    def test_sigterm_saves_as_ctrl_c_does(self):
        process = self.start(out="parts")
        line = ""
        while "step 1: validation" not in line:
            line = process.stderr.readline()
            self.assertTrue(line, "it ended")
        with open(f"/proc/{process.pid}/status") as status:
            ignored = int(re.search(r"(?m)^SigIgn:\s*([0-9a-f]+)", status.read())[1], 16)
        self.assertTrue(ignored >> (signal.SIGXFSZ - 1) & 1)
        process.send_signal(signal.SIGTERM)
        _, text = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 143, text)
        self.assertIn("goes on from there", text)
        self.assertEqual(len(self.checkpoints("parts")), 1)
        self.train(out="parts")

    def test_killed_at_any_moment_it_goes_on(self):
        self.write(RECIPE.replace("tokens = 3072", "tokens = 6144"))
        self.train(out="whole")
        for moment in (0.0, 0.03, 0.11):
            process = self.start("--set", "checkpoint.minutes=0", out="parts")
            def whole():
                return {name for name in self.checkpoints("parts") if name.startswith("step-")}
            before = whole()
            self.wait_for(process, lambda: whole() - before, "checkpoint")
            time.sleep(moment)
            process.kill()
            process.communicate()
            self.assertTrue(whole())
        self.train(out="parts")
        self.assertEqual(self.model("parts"), self.model("whole"))
        self.assertFalse([c for c in self.checkpoints("parts") if c.startswith(".writing")])

    def test_a_damaged_checkpoint_is_passed_over(self):
        self.train("--steps", "2", out="whole")
        self.train("--steps", "2")
        self.train("--steps", "1")
        self.assertEqual(self.checkpoints(), ["step-00000002", "step-00000003"])
        victim = self.path("out", "checkpoints", "step-00000003", "optimizer.safetensors")
        with open(victim, "r+b") as f:
            f.seek(-5, os.SEEK_END)
            f.write(b"\x55")
        text = self.train()
        self.assertIn("passed over a damaged checkpoint", text)
        self.assertIn("optimizer.safetensors", text)
        self.assertIn("going on from", text)
        self.train(out="whole")
        self.assertEqual(self.model(), self.model("whole"))

    def ranks(self, *args, out):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = str(s.getsockname()[1])
        both = [self.start(*args, out=out, RANK=str(r), WORLD_SIZE="2", LOCAL_RANK=str(r), MASTER_ADDR="127.0.0.1",
                           MASTER_PORT=port) for r in (0, 1)]
        try:
            texts = [p.communicate(timeout=120)[1] for p in both]
        finally:
            for p in both:
                p.kill()
                p.wait()
        for p, text in zip(both, texts):
            self.assertEqual(p.returncode, 0, texts)
        return texts[0]

    def test_two_ranks_are_one(self):
        one = self.losses(self.train(out="one"))
        text = self.ranks("--steps", "3", out="two")
        self.assertIn("2 rank(s)", text)
        two = self.losses(text)
        self.assertEqual(self.checkpoints("two"), ["step-00000003"])
        for step in range(4):
            self.assertAlmostEqual(two[step], one[step], delta=2e-3)
        # Their checkpoint is one rank's, and the other way round.
        rest = self.losses(self.train("--steps", "1", out="two"))
        rest |= self.losses(self.ranks(out="two"))
        for step in (4, 5, 6):
            self.assertAlmostEqual(rest[step], one[step], delta=5e-3)
        self.assertTrue(os.path.exists(self.path("two", "model", "model.safetensors")))

    def test_ranks_beside_torchruns_own_store(self):
        """torchrun's agent holds MASTER_PORT, in a protocol of its own; here a socket that answers nothing."""
        one = self.losses(self.train("--steps", "1", out="one"))
        with socket.socket() as agent:
            agent.bind(("127.0.0.1", 0))
            agent.listen()
            env = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(agent.getsockname()[1]), "TORCHELASTIC_USE_AGENT_STORE": "True"}
            both = [self.start("--steps", "1", out="two", RANK=str(r), LOCAL_RANK=str(r), **env) for r in (0, 1)]
            try:
                texts = [p.communicate(timeout=120)[1] for p in both]
            finally:
                for p in both:
                    p.kill()
                    p.wait()
        self.assertEqual([p.returncode for p in both], [0, 0], texts)
        self.assertIn("2 rank(s)", texts[0])
        self.assertAlmostEqual(self.losses(texts[0])[0], one[0], delta=2e-3)

    @unittest.skipUnless(shutil.which("torchrun"), "no torchrun in PATH")
    def test_torchrun(self):
        done = subprocess.run(["torchrun", "--no-python", "--nproc-per-node", "2", *self.command("--steps", "1")],
                              capture_output=True, text=True, timeout=240, env=self.environment())
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertIn("2 rank(s)", done.stderr)

    def test_devices_that_are_not_there(self):
        for device in ("foo", "npu", "meta", "cpu:7"):
            self.refused("--device", device, says=[f"--device {device}", "it has cpu"], status=2, out="never")
        self.assertFalse(os.path.exists(self.path("never")))

    def test_an_output_folder_that_cannot_be(self):
        blocked = self.path("blocked")
        with open(blocked, "w"):
            pass
        # Said before anything is computed, and what stood there is untouched.
        text = self.refused(says=[blocked, "output.path"], status=2, out="blocked/run")
        self.assertNotIn("step", text.split("fathom: ")[0])
        self.assertTrue(os.path.isfile(blocked))

    def test_ranks_that_do_not_fit(self):
        env = {"RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        process = self.start(**env)
        _, text = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 2, text)
        self.assertTrue(text.startswith("fathom: "), text)

    def refused(self, *args, says, status, out="out"):
        text = self.train(*args, status=status, out=out)
        errors = [line for line in text.split("\n") if line.startswith("fathom: ")]
        self.assertTrue(errors, text)
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, text)
        return text

    def test_wrong_recipes(self):
        self.refused("--set", "model.hiden_size=3", status=2, says="hiden_size")
        self.write(RECIPE.replace("[batch]", "[batch]\nmicro_tokns = 4"))
        self.refused(status=2, says=["micro_tokns", "tiny.toml"])
        self.write(RECIPE + "\n[oops")
        self.refused(status=2, says="tiny.toml")
        self.write(RECIPE.replace("vocab_size = 4096", "vocab_size = 100"))
        self.refused(status=2, says=["vocab_size", "tokenizer"])
        os.remove(self.recipe)
        self.refused(status=1, says="tiny.toml")

    def test_missing_or_bad_files(self):
        self.write(RECIPE.replace('paths = ["text/*.txt"]', 'paths = ["text/none*.txt"]', 1))
        self.refused(status=1, says="none")
        self.write(RECIPE)
        for garbage in ("", "{", '{"model": {}}', "\0" * 100):
            with open(self.path("tokenizer.json"), "w") as f:
                f.write(garbage)
            self.refused(status=1, says="tokenizer.json")
        os.remove(self.path("tokenizer.json"))
        self.refused(status=1, says="tokenizer.json")
        self.assertEqual(self.checkpoints(), [])

    def test_restart_puts_earlier_checkpoints_away(self):
        self.train("--steps", "4")
        self.train("--restart", "--steps", "2")
        self.assertEqual(self.checkpoints(), ["step-00000002"])
        self.assertEqual(os.listdir(self.path("out", "checkpoints-before-1")), ["step-00000004"])
        self.train("--steps", "1")  # goes on from the new run, not from the old one's higher step
        self.assertIn("step-00000003", self.checkpoints())

    def test_init_from(self):
        self.train(out="base")
        text = self.train("--init-from", self.path("base", "model"), "--steps", "1", out="next")
        self.assertLess(self.losses(text)[0], 8.0, "it starts from what was learned")
        self.refused("--init-from", self.path("nowhere"), status=1, says="nowhere", out="third")

    def test_divergence_keeps_the_last_good_checkpoint(self):
        self.write(RECIPE.replace("tokens = 3072", "tokens = 51200"))
        self.train("--steps", "2")
        good = self.path("out", "checkpoints", "step-00000002")
        before = {name: digest(os.path.join(good, name)) for name in os.listdir(good)}
        absurd = ["--set", "optimizer.learning_rate=100", "--set", "optimizer.adam_learning_rate=100",
                  "--set", "optimizer.weight_decay=100"]
        text = self.refused(*absurd, status=1, says=["step-00000002", "lower learning rate"])
        self.assertNotIn("saved", text)
        self.assertEqual({name: digest(os.path.join(good, name)) for name in os.listdir(good)}, before)
        self.assertIn("going on from", self.train("--steps", "1"))

    def test_full_disk(self):
        disk = self.path("disk")
        os.mkdir(disk)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("no tmpfs can be mounted here (not root?)")
        try:
            # A first checkpoint fits, a second one beside it does not.
            self.train("--steps", "1", out="disk")
            self.assertEqual(self.checkpoints("disk"), ["step-00000001"])
            text = self.train("--steps", "2", "--set", "checkpoint.minutes=0", out="disk", status=1)
            self.assertIn("earlier ones are untouched", text)
            self.assertIn("Training goes on; free some space", text)
            self.assertEqual(self.checkpoints("disk"), ["step-00000001"])
            subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
            self.assertIn("going on from", self.train(out="disk"))
        finally:
            subprocess.run(["umount", disk])

    def test_help_and_a_missing_trainer(self):
        done = subprocess.run([FATHOM, "train", "--help"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("fathom train recipes/nano.toml", done.stdout)
        own = subprocess.run([TRAIN, "--help"], capture_output=True, text=True, timeout=60)
        self.assertEqual(own.returncode, 0, own.stderr)
        # fathom starts the one beside it.
        done = subprocess.run([FATHOM, "train", self.path("absent.toml")], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("absent.toml", done.stderr)
        alone = self.path("fathom")
        shutil.copy(FATHOM, alone)
        done = subprocess.run([alone, "train", self.recipe], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("packages-train.txt", done.stderr)
        self.assertEqual(subprocess.run([TRAIN], capture_output=True, timeout=60).returncode, 2)

    def test_transformers_agree_with_an_export(self):
        python = os.environ.get("FATHOM_TRANSFORMERS_PYTHON", sys.executable)
        if subprocess.run([python, "-c", "import torch, transformers, safetensors"], capture_output=True).returncode != 0:
            self.skipTest(f"{python} has no transformers; FATHOM_TRANSFORMERS_PYTHON names one that has")
        unit = os.path.join(os.path.dirname(TRAIN), "trainer_test")
        exported = self.path("export")
        done = subprocess.run([unit, "--gtest_filter=CheckpointTest.ExportForTransformers"], capture_output=True, text=True,
                              timeout=120, env=self.environment(FATHOM_EXPORT_DIR=exported))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        script = os.path.join(SOURCE, "tests", "golden", "train", "train_gradients.py")
        done = subprocess.run([python, script, "--export", exported], capture_output=True, text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("differ by at most", done.stdout)


if __name__ == "__main__":
    FATHOM, TRAIN, SOURCE = (os.path.abspath(path) for path in sys.argv[1:4])
    unittest.main(argv=[sys.argv[0]] + sys.argv[4:])
