#!/usr/bin/env python3
"""Holds the include directions of the source tree. Python standard library only.

    check_layers.py [ROOT]       lists each offending include as file:line and exits with 1 if there is one
    check_layers.py --self-test  checks the checker on small trees made for it
"""
import os
import re
import sys
import tempfile

# Layer: the layers its files may include, besides its own. A layer is a folder; of two that lie in each other, a
# file is of the inner one.
ALLOWED = {
    "core": [],
    "nn": ["core"],
    "data": ["core"],
    "quant/deploy": ["core"],
    "quant": ["quant/deploy", "nn", "core"],
    "train/ranks": ["core"],
    "train": ["train/ranks", "quant", "quant/deploy", "nn", "data", "core"],
    "tools": ["train", "train/ranks", "nn", "data", "quant", "quant/deploy", "core"],
}

# Headers that stay in some places: outside of them they may not be included, not even through another header.
# One file of the kernel benchmarks times what oneDNN has and the library does not use.
CONFINED = [
    (re.compile(r"(oneapi/dnnl/)?dnnl\w*\.hp?p?$"), ("core/kernels/", "tools/bench/onednn.cpp")),
    (re.compile(r"(unsupported/)?Eigen/"), ("core/kernels/",)),
    (re.compile(r"(\w+intrin|arm_neon|arm_sve)\.h$"), ("core/kernels/",)),
]

# Headers that the files of a folder may not see, not even through another header: the tape.
TAPE = re.compile(r"core/(var|ops\w*)\.h$")
HIDDEN = [(TAPE, "core/kernels/"), (TAPE, "quant/deploy/")]

# Folders in which no unit (NAME.h and NAME.cpp) may need itself through others.
ACYCLIC = ["core/kernels/", "quant/deploy/"]

# Headers that one source file, and no header, may include.
ONCE = [re.compile(r"mpi\.h$"), re.compile(r"onnx\.pb\.h$")]

SUFFIXES = (".h", ".hpp", ".cpp", ".cc", ".inl")
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path):
    """The innermost layer a file or header lies in, or none."""
    inside = [layer for layer in ALLOWED if path.startswith(layer + "/")]
    return max(inside, key=len, default=None)


def read_includes(root):
    """{file: [(line, header, quoted)]} of all files in the layers of the table, paths relative to root."""
    includes = {}
    for folder in sorted({layer.split("/")[0] for layer in ALLOWED}):
        for where, _, names in os.walk(os.path.join(root, folder)):
            for name in sorted(names):
                if name.endswith(SUFFIXES):
                    path = os.path.join(where, name)
                    with open(path, encoding="utf-8") as file:
                        matches = [(number, INCLUDE.match(text)) for number, text in enumerate(file, 1)]
                    includes[os.path.relpath(path, root).replace(os.sep, "/")] = [
                        (number, match[2], match[1] == '"') for number, match in matches if match]
    return includes


def route_to(header, pattern, includes, seen):
    """The chain of headers from `header` to one that matches, or none."""
    if pattern.match(header):
        return [header]
    if header in seen:
        return []
    seen.add(header)
    for _, further, _ in includes.get(header, []):
        route = route_to(further, pattern, includes, seen)
        if route:
            return [header] + route
    return []


def shortest_route(graph, start, end):
    """The units from start to end, both included, or none."""
    routes = [[start]]
    seen = {start}
    for route in routes:  # which grows
        if route[-1] == end:
            return route
        for further in sorted(graph.get(route[-1], {})):
            if further not in seen:
                seen.add(further)
                routes.append(route + [further])
    return []


def find_circles(includes, folder):
    """[(file, line, text)], one for each set of units that stand in a circle."""
    graph = {}
    for file, lines in sorted(includes.items()):
        for number, header, _ in lines:
            if file.startswith(folder) and header.startswith(folder):
                unit, other = (path[len(folder):].rsplit(".", 1)[0] for path in (file, header))
                if unit != other:
                    graph.setdefault(unit, {}).setdefault(other, (file, number))
    circles = {}
    for unit in sorted(graph):
        for other, (file, number) in sorted(graph[unit].items()):
            route = shortest_route(graph, other, unit)
            if route:
                circles.setdefault(frozenset(route), (file, number, " -> ".join([unit] + route)))
    return list(circles.values())


def find_offences(includes, acyclic=None):
    offences = []
    once = {pattern: [] for pattern in ONCE}
    for file, lines in sorted(includes.items()):
        layer = layer_of(file)
        for number, header, quoted in lines:
            def offence(text):
                offences.append("%s:%d: %s" % (file, number, text))

            target = layer_of(header)
            if target:
                if target != layer and target not in ALLOWED[layer]:
                    offence("%s may not include %s" % (layer, header))
            elif quoted:
                offence('expected the path of a header from the root of the tree, found "%s"' % header)
            for pattern, homes in CONFINED:
                route = not file.startswith(homes) and route_to(header, pattern, includes, set())
                if route:
                    offence("%s stays in %s" % (" -> ".join(route), " and ".join(homes)))
            for pattern, blind in HIDDEN:
                route = file.startswith(blind) and route_to(header, pattern, includes, set())
                if route:
                    offence("%s may not see %s" % (blind, " -> ".join(route)))
            for pattern in ONCE:
                if pattern.match(header):
                    once[pattern].append(file)
                    if not file.endswith(".cpp"):
                        offence("%s belongs in a .cpp file" % header)
                    elif set(once[pattern]) != {file}:
                        offence("%s is already included in %s" % (header, once[pattern][0]))
    for folder in ACYCLIC if acyclic is None else acyclic:
        offences += ["%s:%d: the arrows of %s run in a circle: %s" % (file, number, folder, text)
                     for file, number, text in find_circles(includes, folder)]
    return offences


def self_test():
    def check(files, *expected):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            found = [offence.split(": ")[0] for offence in find_offences(read_includes(root), ["core/kernels/"])]
            if found != list(expected):
                sys.exit("check_layers: self-test: expected %s, found %s in %s" % (list(expected), found, files))

    for folder in ALLOWED:
        for target in ALLOWED:
            refused = folder != target and target not in ALLOWED[folder]
            text = '// a line\n#include <vector>\n  # include "%s/x.h"\n' % target
            check({folder + "/a.cpp": text}, *["%s/a.cpp:3" % folder] * refused)
    check({"core/a.h": "#include <nn/module.h>\n"}, "core/a.h:1")
    check({"nn/a.h": '#include "../data/image.h"\n'}, "nn/a.h:1")
    check({"nn/a.h": '#include "module.h"\n'}, "nn/a.h:1")
    for header in ("dnnl.hpp", "oneapi/dnnl/dnnl.hpp", "dnnl_version.h", "Eigen/Dense", "immintrin.h", "x86intrin.h"):
        check({"core/kernels/a.cpp": "#include <%s>\n" % header})
        check({"core/a.cpp": "#include <%s>\n" % header}, "core/a.cpp:1")
        check({"core/kernels/a.h": "#include <%s>\n" % header, "nn/b.cpp": '\n#include "core/kernels/a.h"\n'},
              "nn/b.cpp:2")
    kernel = {"core/kernels/a.h": "#include <dnnl.hpp>\n"}
    check({**kernel, "tools/bench/onednn.cpp": '#include "core/kernels/a.h"\n'})
    check({**kernel, "tools/bench/a.cpp": '#include "core/kernels/a.h"\n'}, "tools/bench/a.cpp:1")
    check({"tools/bench/onednn.cpp": "#include <Eigen/Dense>\n"}, "tools/bench/onednn.cpp:1")
    for home in ("core/kernels/", "quant/deploy/"):
        for header in ("core/var.h", "core/ops.h", "core/ops_parts.h"):
            check({home + "a.cpp": '#include "%s"\n' % header}, home + "a.cpp:1")
            check({home + "a.cpp": '#include "core/b.h"\n', "core/b.h": '#include "%s"\n' % header},
                  home + "a.cpp:1")
    # x.cpp needs y, whose header needs x.h: a circle, though no header includes itself.
    kernels = {"core/kernels/x.h": "", "core/kernels/x.cpp": '#include "core/kernels/x.h"\n#include "core/kernels/y.h"\n',
               "core/kernels/y.h": "", "core/kernels/y.cpp": '#include "core/kernels/z.h"\n', "core/kernels/z.h": ""}
    check(kernels)
    check({**kernels, "core/kernels/y.h": '#include "core/kernels/x.h"\n'}, "core/kernels/x.cpp:2")
    check({**kernels, "core/kernels/z.h": '\n#include "core/kernels/x.h"\n'}, "core/kernels/x.cpp:2")
    check({path.replace("core/kernels", "nn"): text.replace("core/kernels", "nn")
           for path, text in {**kernels, "core/kernels/z.h": '#include "core/kernels/x.h"\n'}.items()})
    check({"train/ranks/comm_mpi.cpp": '#include <mpi.h>\n#include "train/ranks/mpi.h"\n',
           "train/ranks/comm.cpp": '#include "train/ranks/mpi.h"\n'})
    check({"train/ranks/comm.h": "#include <mpi.h>\n"}, "train/ranks/comm.h:1")
    check({"train/a.cpp": "#include <mpi.h>\n", "train/b.cpp": "#include <mpi.h>\n"}, "train/b.cpp:1")
    check({"core/a.h": '#include "core/b.h"\n', "core/b.h": '#include "core/a.h"\n'})


def main(arguments):
    if arguments == ["--self-test"]:
        self_test()
        return 0
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print(__doc__, file=sys.stderr)
        return 64
    root = arguments[0] if arguments else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    includes = read_includes(root)
    if not includes:
        print("check_layers: no source files under %s" % root, file=sys.stderr)
        return 66
    offences = find_offences(includes)
    print("\n".join(offences) if offences else "check_layers: %d files, no offence" % len(includes))
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
