#!/usr/bin/env python3
"""The converter as a program: exit codes, failed writes, signals. Needs no PyTorch."""
import os
import resource
import signal
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

from torch_files import CONVERTER, ConverterTest, archive, dictionary, program, tensor


class Program(ConverterTest):
    def test_list(self):
        self.write(archive())
        done = self.run_program(self.input, "--list")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"w F32 [4]\n", b""))
        self.assertEqual(os.listdir(self.folder), ["in.pth"])

    def test_exit_codes(self):
        self.write(archive())
        missing = os.path.join(self.folder, "missing")
        other = tempfile.TemporaryDirectory()
        self.addCleanup(other.cleanup)
        pipe = os.path.join(other.name, "pipe")
        os.mkfifo(pipe)
        table = [
            ([], 64), ([self.input], 64), (["--unknown"], 64), ([self.input, self.output, "more"], 64),
            ([self.input, self.input], 64), ([self.input, "-"], 64), (["-", self.output], 64), ([self.input, ""], 64),
            ([self.input, self.output, "--keys", "a"], 64), ([self.input, self.output, "--ke", "a"], 64),
            ([self.input, self.output, "--key"], 64), ([self.input, self.output, "x" * 5000], 64),
            ([self.input, self.output, "--a\nb"], 64), ([missing * 99, self.output], 66),
            ([self.input, os.path.join(self.folder, "x" * 300)], 74), ([self.input, self.output], 0), (["--help"], 0),
            ([self.input, self.output, "--key", "model"], 65), ([missing, self.output], 66),
            ([self.folder, self.output], 66), ([self.input, os.path.join(missing, "out")], 74),
            ([pipe, self.output], 66), (["/dev/zero", self.output], 66), ([self.input, self.folder], 74), ([self.input, "/dev/null"], 74),
        ]
        for arguments, expected in table:
            with self.subTest(arguments):
                done = self.run_program(*arguments)
                self.assertEqual(done.returncode, expected, done.stderr)
                self.assertEqual(done.stderr.count(b"\n"), int(expected != 0), done.stderr)
                self.assertLess(len(done.stderr), 600)
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])

    def test_write_fails(self):
        self.write(archive())
        self.write(b"old", self.output)
        done = self.run_program(self.input, self.output,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
        self.assertEqual(done.returncode, 74, done.stderr)
        self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), b"old")

    def test_standard_output_fails(self):
        self.write(archive())
        with open("/dev/full", "wb") as full:
            done = self.run_program(self.input, "--list", stdout=full)
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (74, 1), done.stderr)
        done = self.run_program(self.input, "--list", preexec_fn=lambda: os.close(1))
        self.assertEqual((done.returncode, done.stderr.count(b"\n")), (74, 1), done.stderr)

    def test_names_of_files(self):
        self.write(archive())
        code, errors = self.call(self.input, os.path.join(self.folder, "no", "out"))
        self.assertEqual(code, 74)
        self.assertTrue(errors.endswith("/no/out: cannot write: No such file or directory\n"), errors)
        for name in ("x" * 255, "\u00e9" * 127):
            self.output = os.path.join(self.folder, name)
            self.assertEqual(self.call(self.input, self.output), (0, ""))
            self.assertEqual(list(self.read()), ["w"])

    def test_a_folder_that_may_not_be_read(self):
        self.write(archive())
        actual = os.open
        for kind, code in ((PermissionError(13, "Permission denied"), 0), (OSError(5, "Input/output error"), 74)):
            def refused(path, flags, *more, error=kind, **options):
                if flags == os.O_RDONLY and path == self.folder:
                    raise error
                return actual(path, flags, *more, **options)
            with unittest.mock.patch("os.open", refused), unittest.mock.patch("os.dup2"):
                self.assertEqual(self.call(self.input, self.output)[0], code)
            self.assertEqual(list(self.read()), ["w"])

    def test_standard_error_fails(self):
        self.write(archive(program(dictionary(("model.w", tensor())))))
        expected = b"w F32 [4]\n"
        with open("/dev/full", "wb") as full:
            for options in ({"stderr": full}, {"preexec_fn": lambda: os.close(2)}):
                done = self.run_program(self.input, self.output, "--list", **options)
                self.assertEqual((done.returncode, done.stdout), (0, expected))
                self.assertEqual(self.run_program(self.input, **options).returncode, 64)
                self.assertEqual(self.run_program(self.input + "x", self.output, **options).returncode, 66)

    def test_stopped_by_a_signal(self):
        self.write(archive())
        self.write(b"old", self.output)
        stopping = ("import os, runpy, signal, sys; fsync = os.fsync; "
                    "os.fsync = lambda fd: os.kill(os.getpid(), %d) or fsync(fd); "
                    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')")
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(one):
                done = subprocess.run([sys.executable, "-c", stopping % one, CONVERTER, self.input, self.output],
                                      stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(one, signal.SIG_DFL))
                self.assertEqual((done.returncode, done.stderr), (-one, b""))
                self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])
                with open(self.output, "rb") as file:
                    self.assertEqual(file.read(), b"old")

    def test_temporary_of_a_killed_process(self):
        self.write(archive())
        self.write(b"left", os.path.join(self.folder, ".out.safetensors.tmp.%d" % os.getpid()))
        self.assertEqual(self.call(self.input, self.output)[0], 0)
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.pth", "out.safetensors"])


if __name__ == "__main__":
    unittest.main()
