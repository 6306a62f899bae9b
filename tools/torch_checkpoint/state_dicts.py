"""Which object of a file is the state dict."""
import collections
import fnmatch
import sys

from .messages import Refused, note, require, shown
from .values import Global, Opaque, Tensor, filled, is_unconvertible, kind_of

MAX_KEY_DEPTH = 8
STATE_DICT_KEYS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "net", "network",
                   "model_state", "module", "weights", "params")
LEFT_OUT = ("num_batches_tracked", "n_averaged", "_extra_state")

# Where the classes of networks live, and the entries that hold a whole one when it is saved with a checkpoint.
MODEL_MODULES = ("torch.nn.", "torchvision.models.", "timm.models.")
MODEL_KEYS = STATE_DICT_KEYS + ("ema",)


def is_tensor(value):
    return type(filled(value)) is Tensor


def is_ignored(name, patterns):
    """`patterns`: of --ignore-extra; "[" is no more than itself, as in faq-train."""
    return type(name) is str and any(fnmatch.fnmatchcase(name, one.replace("[", "[[]")) for one in patterns)


def is_left_out(name):
    return type(name) is str and name.rsplit(".", 1)[-1] in LEFT_OUT


def wanted_items(value, patterns):
    return [(name, one) for name, one in value.items() if not is_left_out(name) and not is_ignored(name, patterns)]


def is_state_dict(value, patterns=()):
    if not isinstance(value, dict):
        return False
    items = wanted_items(value, patterns)
    return any(is_tensor(one) for _, one in items) and \
        all(is_tensor(one) or is_unconvertible(filled(one)) for _, one in items)


def has_tensors(value):
    """A dict of tensors, of which some may not be as expected."""
    return isinstance(value, dict) and any(is_tensor(one) or (type(filled(one)) is Opaque and filled(one).why)
                                           for one in value.values())


def children(value):
    """The entries of a container, by name; those of a list by number."""
    if isinstance(value, dict):
        return [(name, one) for name, one in value.items() if type(name) is str]
    if type(value) in (list, tuple):
        return [(str(i), one) for i, one in enumerate(value[:1000])]
    return []


def entry_at(root, key):
    """The entry of that name, or, for a.b, the entry b of the entry a. Names may hold dots themselves."""
    entries = dict(children(root))
    if key in entries:
        return entries[key]
    for place, character in enumerate(key):
        if character == "." and children(entries.get(key[:place])):
            try:
                return entry_at(entries[key[:place]], key[place + 1:])
            except KeyError:
                pass
    raise KeyError(key)


def state_dicts_in(root, patterns):
    """(key, value) of the entries that are state dicts, outermost first."""
    found, seen = [], {id(root)}
    waiting = collections.deque([(root, "", 0)])
    while waiting:
        where, prefix, depth = waiting.popleft()
        for name, value in children(where):
            if isinstance(value, (dict, list, tuple)) and id(value) not in seen:
                seen.add(id(value))
                if is_state_dict(value, patterns):
                    found.append((prefix + name, value))
                elif depth < MAX_KEY_DEPTH:
                    waiting.append((value, prefix + name[:200] + ".", depth + 1))
    return found


def keys_to_take(found):
    more = " and %d more" % (len(found) - 4) if len(found) > 4 else ""
    return "; --key takes " + " or ".join(shown(name, 60) for name, _ in found[:4]) + more if found else ""


def advice_on(value, key):
    """What to do about an object where a state dict is expected, as far as that can be told."""
    if type(value) not in (Opaque, Global):
        return ""
    module = value.name.split(".")[0]
    foreign = module not in getattr(sys, "stdlib_module_names", ()) and module not in ("torch", "__builtin__", "numpy")
    if value.name.startswith(MODEL_MODULES) or (foreign and (key is None or key in MODEL_KEYS)):
        return " (only state dicts can be converted: save model.state_dict(), not the model)"
    return ""


def refuse_strangers(where, value, patterns):
    """Names the first entry of a dict that makes it no state dict."""
    items = [(name, filled(one)) for name, one in wanted_items(value, patterns)]
    strangers = sorted((row for row in items if not is_tensor(row[1])), key=lambda row: is_unconvertible(row[1]))
    require(strangers, where + "it is empty")
    name, one = strangers[0]
    way_out = "" if len(strangers) == len(items) else "; --ignore-extra leaves it out"
    if type(one) is Opaque and one.why:
        raise Refused("%sentry %s: %s%s" % (where, shown(name), one.why, way_out))
    raise Refused("%sentry %s is a %s, not a tensor%s" % (where, shown(name), kind_of(one),
                                                          advice_on(one, name) or way_out))


def find_state_dict(root, key, patterns):
    require(isinstance(root, (dict, list, tuple)) and not (type(root) is Opaque and not root),
            "expected a state dict, found a %s%s" % (kind_of(root), advice_on(root, None)))
    if key is not None:
        try:
            entry = entry_at(root, key)
        except KeyError:
            there = ", ".join(shown(name, 20) for name, _ in children(root)[:8])
            raise Refused("no entry %s; there are: %s%s" % (shown(key), there,
                                                            keys_to_take(state_dicts_in(root, patterns)))) from None
        if not is_state_dict(entry, patterns):
            if has_tensors(entry):
                refuse_strangers("in %s: " % shown(key, 60), entry, patterns)
            raise Refused("the entry %s is not a state dict%s" % (shown(key),
                                                                  keys_to_take(state_dicts_in(root, patterns))))
        return entry
    if is_state_dict(root, patterns):
        return root
    entries = dict(children(root))
    # A state dict that is not whole is the one that is meant nevertheless.
    usual = [name for name in STATE_DICT_KEYS if has_tensors(entries.get(name))]
    if usual:
        if not is_state_dict(entries[usual[0]], patterns):
            refuse_strangers("in %s: " % usual[0], entries[usual[0]], patterns)
        if len(usual) > 1:
            note("took %s; --key takes %s" % (usual[0], " or ".join(usual[1:])))
        return entries[usual[0]]
    found = state_dicts_in(root, patterns)
    likely = [row for row in found if not row[0].startswith(("optim", "ema", "sched"))]
    if len(likely) == 1:
        note("took %s%s" % (shown(likely[0][0], 60),
                            keys_to_take([row for row in found if row is not likely[0]])))
        return likely[0][1]
    missing = "no state dict at the top or under %s" % ", ".join(STATE_DICT_KEYS[:5])
    if found:
        raise Refused(missing + keys_to_take(found))
    for name in STATE_DICT_KEYS:
        value = entries.get(name)
        if isinstance(value, dict) and value:
            refuse_strangers(missing + ": in %s: " % name, value, patterns)
        if type(value) in (Opaque, Global):
            raise Refused("%s: entry %s is a %s, not a tensor%s" % (missing, shown(name), kind_of(value),
                                                                    advice_on(value, name)))
    require("param_groups" not in entries, "the state of an optimizer, without weights")
    if isinstance(root, dict):
        refuse_strangers("" if has_tensors(root) else missing + ": ", root, patterns)
    raise Refused(missing)
