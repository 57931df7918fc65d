#!/usr/bin/env python3
"""The checks of the tree must be able to fail, and the setup must install exactly what is missing.

Usage: tools_test.py SOURCE_DIR [unittest arguments]
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = None


class ToolsTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="fathom-tools-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, path, text, mode=0o644):
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(path, mode)
        return path

    def check(self, tool):
        return subprocess.run([sys.executable, os.path.join(SOURCE, "tools", tool), self.folder], capture_output=True,
                              text=True)

    def test_layers(self):
        self.write("src/model/a.cc", '#include "kernels/x.h"\n#include "model/a.h"\n#include <vector>\n')
        self.assertEqual(self.check("check_layers").returncode, 0)
        for path, line in (("src/base/b.h", '#include "engine/engine.h"'), ("src/text/c.cc", '#include "format/f.h"'),
                           ("src/attic/d.cc", ""), ("src/io/e.cc", '#  include "nowhere/e.h"')):
            written = self.write(path, line + "\n")
            done = self.check("check_layers")
            self.assertEqual(done.returncode, 1, path)
            self.assertIn(path, done.stdout)
            os.remove(written)

    def test_layers_of_nothing(self):
        self.assertEqual(self.check("check_layers").returncode, 1)

    def test_file_length(self):
        self.write("src/a.cc", "x\n" * 800)
        self.assertEqual(self.check("check_file_length").returncode, 0)
        self.assertIn("longer than 400", self.check("check_file_length").stdout)
        self.write("src/table.inc", "// Generated\n" + "x\n" * 2000)
        self.assertEqual(self.check("check_file_length").returncode, 0)
        self.write("src/b.cc", "x\n" * 801)
        self.assertEqual(self.check("check_file_length").returncode, 1)

    def ensure_packages(self, installed, apt_status=0):
        """Runs ensure_packages over a list of three with made-up dpkg-query and apt-get: (process, apt's words)."""
        self.write("list.txt", "# comment\nalpha\nbeta  # why\n\nlibgamma-dev\n")
        answer = "".join(f"ii {name} " for name in installed)
        self.write("bin/dpkg-query", f'#!/bin/sh\nprintf "{answer}"\n', 0o755)
        log = os.path.join(self.folder, "apt.log")
        self.write("bin/apt-get", f'#!/bin/sh\necho "$@" >> {log}\nexit {apt_status}\n', 0o755)
        self.write("bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)
        script = (f'set -euo pipefail; source "{SOURCE}/tools/setup.sh"; '
                  f'ensure_packages "{self.folder}/list.txt"; echo done')
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True,
                              env={**os.environ, "PATH": os.path.join(self.folder, "bin") + ":" + os.environ["PATH"]})
        words = ""
        if os.path.exists(log):
            with open(log, encoding="utf-8") as text:
                words = text.read()
            os.remove(log)
        return done, words

    def test_nothing_missing_needs_no_apt(self):
        done, words = self.ensure_packages(["alpha", "beta", "libgamma-dev"])
        self.assertEqual((done.returncode, done.stdout, words), (0, "done\n", ""))

    def test_missing_packages_are_installed(self):
        done, words = self.ensure_packages(["alpha"])
        self.assertEqual(done.returncode, 0)
        self.assertIn("beta libgamma-dev", words)
        self.assertNotIn("alpha", words)

    def test_failure_to_install_is_said(self):
        done, words = self.ensure_packages(["alpha", "beta"], apt_status=100)
        self.assertEqual(done.returncode, 1)
        self.assertIn("update", words)
        self.assertIn("could not install: libgamma-dev", done.stderr)


class ExpertsBenchTest(unittest.TestCase):
    """What bench/experts.py makes of what programs print; the runs themselves need root and minutes."""

    def setUp(self):
        spec = importlib.util.spec_from_file_location("experts", os.path.join(SOURCE, "bench", "experts.py"))
        self.experts = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.experts)

    def test_sizes(self):
        for text, size in (("3GiB", 3 << 30), ("512M", 512 << 20), ("1.5g", 3 << 29), ("1500MB", 1500 * 10**6),
                           ("4096", 4096), ("7B", 7)):
            self.assertEqual(self.experts.size_of(text), size, text)
        for text in ("", "GiB", "3 apples", "-3"):
            with self.assertRaises(ValueError, msg=text):
                self.experts.size_of(text)

    def test_what_programs_print(self):
        work = {"tokens": 34, "seconds": 10.0, "stall_seconds": 1.5, "busy_seconds": 9.0, "bytes_read": 34 * 10**9,
                "uses": 1000, "hits": 400}
        fathom = json.dumps({"results": [{"decode_tokens_per_second": {"median": 4.0}, "decode_experts": work,
                                          "prefill_tokens_per_second": {"median": 64.0}}],
                             "memory": {"peak_resident_bytes": 100, "promise_kept": True}, "experts": {"slots": 7}})
        row = self.experts.fathom_result(fathom, "decode")
        self.assertEqual(row["tokens_per_second"], 4.0)
        self.assertEqual(row["bytes_per_token"], 10**9)
        self.assertEqual(row["hit_share"], 0.4)
        self.assertEqual((row["disk_busy"], row["computing"], row["slots"]), (0.9, 0.85, 7))
        self.assertIs(row["kept"], True)
        self.assertEqual(self.experts.fathom_result(fathom, "prefill")["tokens_per_second"], 64.0)
        self.assertEqual(self.experts.disk_share(row, 5e9), 0.8)
        resident = self.experts.fathom_result('{"results": [{"decode_tokens_per_second": {"median": 4.0}}]}', "decode")
        self.assertIsNone(self.experts.disk_share(resident, 5e9))
        peer = 'loading\n[{"n_gen": 0, "avg_ts": 99.0}, {"n_gen": 32, "avg_ts": 2.5}]\n'
        self.assertEqual(self.experts.llama_result(peer, "decode"), {"tokens_per_second": 2.5})
        peer = '[{"n_prompt": 512, "n_gen": 0, "avg_ts": 99.0}]'
        self.assertEqual(self.experts.llama_result(peer, "prefill"), {"tokens_per_second": 99.0})

    def test_table(self):
        def row(program, number, speed, **more):
            return {"program": program, "round": number, "memory": "3GiB", "readahead": None, "tokens_per_second": speed,
                    **more}
        text = self.experts.table([row("fathom", 0, 4.0, disk_share=0.9, cgroup_peak=2 << 30), row("llama.cpp", 0, 1.0),
                                   row("llama.cpp", 1, 8.0), row("fathom", 1, 4.0, disk_share=0.8),
                                   row("ik_llama.cpp", 0, None, failed="killed (memory)"), row("llama.cpp", 2, 2.0),
                                   row("fathom", 2, 6.0, disk_share=0.7)])
        self.assertIn("| fathom (3GiB) | 4.00 |  | 2.00 GiB | 80 % |", text)
        self.assertIn("| llama.cpp (3GiB) | 2.00 | 3.00× |", text)  # of 4, 0.5 and 3
        self.assertIn("| ik_llama.cpp (3GiB) | killed (memory) |", text)

    def test_the_disk(self):
        with tempfile.NamedTemporaryFile() as file:
            file.write(os.urandom(1 << 20))
            file.flush()
            try:
                rate = self.experts.direct_read_rate(file.name, 65536, seconds=0.05, threads=2)
            except OSError as error:
                self.skipTest(f"no direct reads here: {error}")
            self.assertGreater(rate, 0)

    def test_without_root(self):
        if os.geteuid() == 0:
            self.skipTest("this is root")
        self.assertIn("root", self.experts.why_not())


if __name__ == "__main__":
    SOURCE = os.path.abspath(sys.argv[1])
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:])
