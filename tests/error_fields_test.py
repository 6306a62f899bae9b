#!/usr/bin/env python3
"""Every field that an error text of the library names in backquotes is one for which the programs print an option."""
import os
import re
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def known_fields():
    """Names and members of train/option_table.cpp, as tools/option_text.cpp reads them; and what it adds."""
    rows = re.findall(r'^ +\{\{(".*?")\}, .*\},$', text_of("train/option_table.cpp"), re.MULTILINE)
    members = re.findall(r'^ +\{\{"([a-z-]+)".*, \{\}, "(\w+)"\},$', text_of("train/option_table.cpp"), re.MULTILINE)
    renamed = dict(members)
    fields = set(renamed.values()) | {"average"}
    for row in rows:
        names = re.findall(r'"([a-z-]+)"', row)
        fields.update(names)
        if names[0] not in renamed:
            fields.add(names[0].replace("-", "_"))
    return fields


def named_fields():
    """(file, field) of every string literal of the library."""
    for folder in ("core", "nn", "quant", "data", "train"):
        for where, _, files in os.walk(os.path.join(ROOT, folder)):
            for name in files:
                path = os.path.relpath(os.path.join(where, name), ROOT)
                if not name.endswith((".cpp", ".h")):
                    continue
                code = re.sub(r"//.*", "", text_of(path))
                for literal in re.findall(r'"(?:[^"\\\n]|\\.)*"', code):
                    for field in re.findall(r"`([\w-]+)`", literal):
                        yield path, field
                # Helpers that are given the field.
                for field in re.findall(r'\b(?:in_range|check_bits|check_number)\("([\w-]+)"', code):
                    yield path, field


class ErrorFields(unittest.TestCase):
    def test_known(self):
        known, named = known_fields(), list(named_fields())
        self.assertGreater(len(known), 60)
        self.assertGreater(len(named), 60)
        self.assertEqual([entry for entry in named if entry[1] not in known], [])

    def test_no_options(self):
        """The library does not know how options are written. Those of mpirun and srun are not its own."""
        for folder in ("core", "nn", "quant", "data", "train"):
            for where, _, files in os.walk(os.path.join(ROOT, folder)):
                if where == os.path.join(ROOT, "train", "ranks"):
                    continue  # names options of mpirun and srun
                for name in (name for name in files if name.endswith((".h", ".cpp"))):  # not pages
                    code = re.sub(r"//.*", "", text_of(os.path.join(where, name)))
                    self.assertEqual(re.findall(r'"[^"\n]*--[a-z][^"\n]*"', code), [], os.path.join(where, name))


if __name__ == "__main__":
    unittest.main()
