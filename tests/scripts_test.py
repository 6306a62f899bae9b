#!/usr/bin/env python3
"""Tests of tools/*.sh in a tree of their own, with programs that stand in for those they call."""
import os
import shutil
import stat
import subprocess
import tempfile
import unittest

TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tools")
# Notes what it was called with.
RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >>"$RECORD"\n'


class Scripts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)
        self.project = os.path.join(self.folder, "project")
        self.bin = os.path.join(self.folder, "bin")
        self.record = os.path.join(self.folder, "record")

    def script(self, path, text):
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, stat.S_IRWXU)

    def copy(self, name):
        os.makedirs(os.path.join(self.project, "tools"), exist_ok=True)
        shutil.copy(os.path.join(TOOLS, name), os.path.join(self.project, "tools", name))

    def run_script(self, name, *arguments, where=None, **environment):
        done = subprocess.run([os.path.join(self.project, "tools", name), *arguments], cwd=where or self.folder,
                              capture_output=True, text=True,
                              env={**os.environ, "PATH": self.bin + os.pathsep + os.environ["PATH"],
                                   "RECORD": self.record, **environment})
        recorded = []
        if os.path.exists(self.record):
            with open(self.record, encoding="utf-8") as file:
                recorded = file.read().splitlines()
            os.remove(self.record)
        return done, recorded


@unittest.skipIf(shutil.which("jq") is None, "no jq")
class Quickstart(Scripts):
    def setUp(self):
        super().setUp()
        self.copy("quickstart.sh")
        self.script("project/tools/install_deps.sh", "#!/bin/sh\n")
        self.script("bin/cmake", RECORD)
        self.script("project/build/faq-train", RECORD + 'while [ "$1" != --output-dir ]; do shift; done\n'
                    'mkdir "$2" && head -c 2000 /dev/zero >"$2/integer.safetensors"\n')
        self.script("project/build/faq-eval", RECORD + 'echo "{\\"top1\\": 91.25, \\"images_per_s\\": 1234.5}"\n')

    def test_folders(self):
        caller = os.path.join(self.folder, "caller")
        os.makedirs(os.path.join(caller, "kept", "w8a8"))
        default = os.path.join(self.project, "runs", "quickstart")
        idx = "/usr/share/datasets/fashion-mnist"
        spaced = os.path.join(self.folder, "a b")
        table = [([], {}, default, idx), (["out"], {}, caller + "/out", idx),
                 (["kept"], {"FASHION_MNIST": "idx files"}, caller + "/kept", caller + "/idx files"),
                 ([spaced], {"FASHION_MNIST": "/idx"}, spaced, "/idx")]
        for arguments, environment, out, data in table:
            with self.subTest(arguments):
                done, recorded = self.run_script("quickstart.sh", *arguments, where=caller, **environment)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("results go to %s " % out, done.stderr)
                self.assertEqual(sorted(os.listdir(out)), ["table.md", "w4a4", "w8a8"])
                trained = [line for line in recorded if line.startswith("faq-train")]
                self.assertEqual(len(trained), 2)
                self.assertTrue(all(" --data-path %s " % data in line for line in trained), trained)
                self.assertIn("| ResNet-20 | 8, 8 | 91.25 | 91.25 | 2 KB | 1234 |\n", done.stdout)
                self.assertFalse([line for line in recorded if line.startswith("cmake") and "FAQ_TESTS" in line])

    def test_decimal_commas(self):
        def has_commas(name):
            return subprocess.run(["bash", "-c", "LC_ALL=$1; printf %.1f 0,5", "bash", name], capture_output=True,
                                  text=True).stdout == "0,5"

        commas = [name for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "es_ES.UTF-8", "ru_RU.UTF-8") if has_commas(name)]
        if not commas:
            self.skipTest("no locale with decimal commas")
        done, _ = self.run_script("quickstart.sh", LC_ALL=commas[0])
        self.assertEqual((done.returncode, done.stderr.count("printf")), (0, 0), done.stderr)
        self.assertIn("| 91.25 |", done.stdout)


class InstallDeps(Scripts):
    """With a package system that has `installed`, could have `available`, and root."""

    def setUp(self):
        super().setUp()
        self.copy("install_deps.sh")
        self.script("bin/dpkg-query", '#!/bin/sh\nfor last; do :; done\ncase " $INSTALLED " in *" $last "*|*" all "*) '
                    '[ "$last" != "$ABSENT" ] && echo "install ok installed" ;; esac\n')
        self.script("bin/apt-cache", '#!/bin/sh\ncase " $AVAILABLE " in *" $2 "*) ;; *) exit 100 ;; esac\n')
        self.script("bin/apt-get", RECORD)
        self.script("bin/sudo", "#!/bin/sh\n\"$@\"\n")

    def test_optional(self):
        clang = "clang-format-14"
        table = [
            ("everything there", "all", "", "", None),
            ("not to be had", "all", clang, "", None),
            ("to be had", "all", clang, clang, clang),
            ("another one missing", "all", "jq", "", "jq"),
            ("nothing there, not to be had", "", "", "", "catch2"),
        ]
        for name, installed, absent, available, expected in table:
            with self.subTest(name):
                done, recorded = self.run_script("install_deps.sh", INSTALLED=installed, ABSENT=absent,
                                                 AVAILABLE=available)
                self.assertEqual(done.returncode, 0, done.stderr)
                if expected is None:
                    self.assertEqual(recorded, [])
                    continue
                self.assertEqual([line.split()[1] for line in recorded], ["update", "install"])
                words = recorded[1].split()
                self.assertIn(expected, words)
                self.assertEqual(clang in words, available == clang)
        done, recorded = self.run_script("install_deps.sh", INSTALLED="", ABSENT="", AVAILABLE="")
        self.assertIn("left out: clang-format-14", done.stderr)
        done, recorded = self.run_script("install_deps.sh", "--minimal", INSTALLED="", ABSENT="", AVAILABLE="")
        self.assertNotIn("catch2", recorded[1])

    def test_targets(self):
        qemu, gcc = "qemu-user", "gcc-s390x-linux-gnu"
        done, recorded = self.run_script("install_deps.sh", "--targets", INSTALLED="", ABSENT="", AVAILABLE=qemu)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("left out: " + gcc, done.stderr)
        self.assertTrue(qemu in recorded[1].split() and gcc not in recorded[1].split())
        for arguments in ([], ["--minimal"], ["--cluster"]):
            done, recorded = self.run_script("install_deps.sh", *arguments, INSTALLED="", ABSENT="", AVAILABLE=qemu)
            self.assertNotIn(qemu, recorded[1].split())

    def test_cluster(self):
        for arguments, installed, expected in [(["--cluster"], "all", None), (["--cluster"], "", True), ([], "", False)]:
            with self.subTest(arguments, installed=installed):
                # A folder of the system is named; the file there is not this test's to write.
                with open(os.path.join(TOOLS, "install_deps.sh"), encoding="utf-8") as file:
                    text = file.read()
                policy = os.path.join(self.folder, "policy-rc.d")
                self.assertIn("/usr/sbin/policy-rc.d", text)
                self.script("project/tools/install_deps.sh", text.replace("/usr/sbin/policy-rc.d", policy))
                self.script("bin/apt-get", RECORD + 'if [ "$1" = install ] && [ -x %s ]; then %s; '
                            'echo "policy $?" >>"$RECORD"; fi\n' % (policy, policy))
                done, recorded = self.run_script("install_deps.sh", *arguments, INSTALLED=installed, ABSENT="",
                                                 AVAILABLE="")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertFalse(os.path.exists(policy))
                if expected is None:
                    self.assertEqual(recorded, [])
                    continue
                for package in ("slurm-wlm", "munge", "libpmix2", "iproute2", "mpich"):
                    self.assertEqual(package in recorded[1].split(), expected, package)
                self.assertEqual(recorded[2:], ["policy 101"] if expected else [])


class Test(Scripts):
    def test_calls(self):
        self.copy("test.sh")
        self.script("project/tools/install_deps.sh", "#!/bin/sh\n")
        for folder in "core nn quant data train tests docs".split():
            os.makedirs(os.path.join(self.project, folder))
        for name in ("cmake", "ctest", "clang-format-14"):
            self.script("bin/" + name, RECORD)
        done, recorded = self.run_script("test.sh", "-R", "resnet20")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("cmake --preset ci", recorded)
        self.assertRegex(recorded[-1], r"^ctest --test-dir build --no-tests=error .* -R resnet20$")


class FreshMachine(Scripts):
    """Up to where it would make a root file system: that needs root, a mirror and minutes."""

    def setUp(self):
        super().setUp()
        self.copy("fresh_machine.sh")
        self.script("bin/id", "#!/bin/sh\necho ${FAKE_UID:-0}\n")
        self.script("bin/unshare", RECORD + "exit ${UNSHARE_CODE:-0}\n")
        self.script("bin/debootstrap", RECORD)
        self.script("bin/git", RECORD + '[ "$1" = archive ] && tar -cf - -T /dev/null\n')
        self.script("bin/apt-get", "#!/bin/sh\necho bookworm-security main http://mirror/security/\n"
                    "echo bookworm main http://mirror/debian/\n")
        self.script("bin/apt-config", "#!/bin/sh\n")

    def test_syntax(self):
        done = subprocess.run(["bash", "-n", os.path.join(TOOLS, "fresh_machine.sh")], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_usage(self):
        table = [
            ([], {}, 64, "Usage: "),
            (["buster"], {}, 64, "unexpected argument 'buster'"),
            (["bookworm", "trixie"], {}, 64, "found both"),
            (["trixie", "--only", "all"], {}, 64, "--only 'all': expected quickstart or test"),
            (["trixie", "--root"], {}, 64, "--root wants a folder"),
            (["trixie", "--bring"], {}, 64, "--bring '': expected a folder"),
            (["trixie", "--bring", "nowhere"], {}, 64, "--bring 'nowhere': expected a folder"),
            (["trixie", "--"], {}, 64, "-- wants a command"),
            (["trixie"], {"FAKE_UID": "1000"}, 77, "run as root"),
            (["trixie"], {"UNSHARE_CODE": "1"}, 77, "CAP_SYS_ADMIN"),
        ]
        for arguments, environment, code, message in table:
            with self.subTest(arguments):
                done, recorded = self.run_script("fresh_machine.sh", *arguments, **environment)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn(message, done.stderr)
                self.assertNotIn("debootstrap", " ".join(recorded))
        done, _ = self.run_script("fresh_machine.sh", "--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn("--root DIR", done.stdout)

    def test_folders_of_others(self):
        others, made = os.path.join(self.folder, "others"), os.path.join(self.folder, "made")
        for folder, name, text in ((others, "thesis", ""), (made, ".fresh_machine", "bookworm\n")):
            os.makedirs(folder)
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        for folder, message in ((others, "neither empty nor made by this script"), (made, "holds bookworm, not trixie")):
            done, recorded = self.run_script("fresh_machine.sh", "trixie", "--root", folder)
            self.assertEqual(done.returncode, 64, done.stderr)
            self.assertIn(message, done.stderr)
            self.assertNotIn("debootstrap", " ".join(recorded))
        self.assertEqual(os.listdir(others), ["thesis"])

    def test_calls(self):
        root, temporary = os.path.join(self.folder, "root"), os.path.join(self.folder, "temporary")
        os.makedirs(root)
        os.makedirs(temporary)
        # What debootstrap would have made of it.
        self.script("bin/unshare", RECORD + 'case "$*" in\n*debootstrap*) mkdir -p "$ROOT/etc/apt/apt.conf.d" ;;\n'
                    '*quickstart*) exit 3 ;;\nesac\n')
        done, recorded = self.run_script("fresh_machine.sh", "trixie", "--root", root, ROOT=root, TMPDIR=temporary)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertTrue(any(line.endswith("trixie %s http://mirror/debian/" % root) for line in recorded), recorded)
        self.assertRegex(done.stdout, r"tools/quickstart.sh FAILED \(exit code 3\)")
        self.assertRegex(done.stdout, r"tools/test.sh passed")
        with open(os.path.join(root, "etc/apt/sources.list"), encoding="utf-8") as file:
            self.assertEqual(file.read().splitlines()[-1], "deb http://mirror/security/ trixie-security main")
        self.assertEqual(os.listdir(temporary), [])
        # Made before: used again, for a command.
        done, recorded = self.run_script("fresh_machine.sh", "trixie", "--root", root, "--", "tools/test.sh", "-R", "x",
                                         ROOT=root, TMPDIR=temporary)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("debootstrap", " ".join(recorded))
        self.assertTrue(" ".join(recorded).endswith("tools/test.sh -R x"), recorded)


if __name__ == "__main__":
    unittest.main()
