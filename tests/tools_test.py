#!/usr/bin/env python3
"""The checks of the tree must be able to fail, and the setup must install exactly what is missing.

Usage: tools_test.py SOURCE_DIR [unittest arguments]
"""
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


if __name__ == "__main__":
    SOURCE = os.path.abspath(sys.argv[1])
    unittest.main(argv=[sys.argv[0]] + sys.argv[2:])
