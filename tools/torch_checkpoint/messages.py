"""What is said of files: errors, and lines for people."""
import json
import sys

MAX_MESSAGE = 500


class Refused(Exception):
    """A file that cannot be used: exit code 65."""


class Unconvertible(Refused):
    """A tensor that is whole, of a kind that is not converted: it is left out, if others are there."""


class MalformedPickle(Refused):
    """The same, whatever it stands beside."""


def require(condition, message, kind=Refused):
    if not condition:
        raise kind(message)


def is_count(value):
    return type(value) is int and 0 <= value < 1 << 63


def cause_of(error):
    """The first line of an exception of a library."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def shortened(text, longest):
    return text if len(text) <= longest else text[:longest] + "..."


def shown(text, longest=120):
    """A string from a file, fit for a message of one line."""
    text = str(text)
    escaped = json.dumps(text[:longest])[1:-1]
    cut = len(text) > longest or len(escaped) > longest
    return '"' + escaped[:longest] + '"' + ("..." if cut else "")


def brief(number):
    return str(number) if number < 1 << 63 else "2^63 or more"


def say(text):
    """To standard error, which may be closed or full: that changes nothing."""
    try:
        if sys.stderr is not None:
            sys.stderr.write("convert_torch: %s\n" % shortened(text, MAX_MESSAGE))
            sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = None  # or Python 3.13 tries once more at the end, and ends with 120


def note(text):
    say("note: " + text)
