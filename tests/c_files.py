"""What faq-export --c writes, for tests in Python."""
import re
import struct


def rows_of(text, name):
    """The lists of a two-dimensional array."""
    body = re.search(r"\b%s\[\d+\]\[[^]]*\] = \{(.*?)\n\};" % name, text, re.DOTALL).group(1)
    return [[item.strip() for item in row.split(",") if item.strip()] for row in re.findall(r"\{([^}]*)\}", body)]


def images_and_logits(path, height, width, channels):
    """The images of NAME_test.c as rows of pixels of bytes, and the logits of faq as f32 in bytes."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    images = []
    for row in rows_of(text, "images"):
        pixels = [list(map(int, row[i:i + channels])) for i in range(0, len(row), channels)]
        images.append([pixels[r * width:(r + 1) * width] for r in range(height)])
    return images, [[struct.pack("<f", float.fromhex(item.rstrip("f"))) for item in row] for row in rows_of(text, "expected")]


def layouts_of(path):
    """{op: its layout as the comment beside its call says it} of NAME.c; the name as a comment may have it."""
    with open(path, encoding="utf-8") as file:
        return dict(re.findall(r"^    \w+\(&?.*?/\* (.+): ([^:]*?) \*/$", file.read(), re.MULTILINE))
