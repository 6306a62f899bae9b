"""The names of a state dict's tensors, as faq's networks have them."""
import re

from .messages import Refused, note, require, shown
from .values import Key, filled, is_unconvertible, kind_of
from .state_dicts import MAX_KEY_DEPTH, is_ignored, is_left_out, wanted_items

MAX_TENSORS = 100_000

# nn/load_weights.cpp has the same rule of wrappers and counters.
WRAPPERS = ("module.", "_orig_mod.")
INNER_WRAPPERS = re.compile(r"(?:\._orig_mod)+(?=\.)")

# What people call the part of their network that is a network itself. Any other name is stripped, too, if a
# convolution that one of the families below begins with, and another tensor of it, are found behind it.
PREFIXES = ("model", "net", "network", "backbone", "encoder", "base_model", "base", "body", "trunk", "resnet", "cnn",
            "ema_model", "model_ema", "student", "teacher", "feature_extractor", "module", "_model", "_net")
FAMILIES = (("conv1.weight", "layer1.0.conv1.weight"), ("conv1.0.weight", "layer1.0.conv1.weight"),
            ("features.0.weight", "features.3.weight"),
            ("features.conv0.weight", "features.denseblock1.denselayer1.norm1.weight"),
            ("features.conv0.weight", "features.denseblock1.denselayer1.norm.1.weight"),
            ("Conv2d_1a_3x3.conv.weight", "Mixed_5b.branch1x1.conv.weight"),
            ("features.0.0.weight", "features.1.conv.0.0.weight"), ("conv_stem.weight", "blocks.0.0.conv_dw.weight"),
            ("_conv_stem.weight", "_blocks.0._depthwise_conv.weight"))

# EfficientNet-Lite as its first port to PyTorch spells it, and timm's names, which faq has. Its blocks are numbered through;
# which stage one belongs to follows from how many there are (Lite0; Lite1 and Lite2).
LITE_STEM = "_conv_stem.weight"
LITE_STAGES = {16: (1, 2, 2, 3, 3, 4, 1), 21: (1, 3, 3, 4, 4, 5, 1)}
LITE_PARTS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
LITE_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LITE_EXPANDING_BLOCK = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
                        "_project_conv": "conv_pwl", "_bn2": "bn3"}


def unwrapped(name):
    """The name without those of wrappers, which are put one around the other, torch.compile's around parts, too."""
    start = 0
    while name.startswith(WRAPPERS, start):
        start = name.index(".", start) + 1
    return INNER_WRAPPERS.sub("", name[start:])


def networks_in(names):
    """What stands before the networks of a known family ("backbone."), outermost first. "": nothing does."""
    there = set(names)
    found = set()
    for stem, other in FAMILIES:
        for name in names:
            prefix = name[:-len(stem)]
            if name.endswith(stem) and (not prefix or prefix.endswith(".")) and prefix + other in there:
                found.add(prefix)
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def without_prefix(tensors, prefix):
    """The tensors under names without what stands before those of a network."""
    names = list(tensors)
    if prefix is not None:
        prefix += "" if prefix.endswith(".") or not prefix else "."
        kept = {name[len(prefix):]: tensor for name, tensor in tensors.items()
                if name.startswith(prefix) and name != prefix}
        firsts = sorted({name.split(".")[0] + "." for name in names})
        require(kept, "no name begins with %s; they begin with %s%s" %
                (shown(prefix, 60), ", ".join(shown(first, 30) for first in firsts[:6]),
                 " and %d more" % (len(firsts) - 6) if len(firsts) > 6 else ""))
        if len(kept) < len(names):
            note("left out %d tensors whose names do not begin with %s" % (len(names) - len(kept), shown(prefix, 60)))
        return kept
    networks = networks_in(names)
    if networks:
        require(networks[0] == "" or len(networks) == 1, "several networks, under %s%s: --prefix takes one of them" %
                (", ".join(shown(one, 40) for one in networks[:4]), " and more" if len(networks) > 4 else ""))
        prefix = networks[0]
    else:
        prefix = ""
        for first in names[0].split(".", MAX_KEY_DEPTH)[:-1]:
            if first not in PREFIXES or not all(name.startswith(prefix + first + ".") for name in names):
                break
            prefix += first + "."
    if not prefix:
        return tensors
    result, stripped = {}, 0
    for name, tensor in tensors.items():
        if name.startswith(prefix):
            name = name[len(prefix):]
            stripped += 1
        require(name not in result, "two tensors get the name %s without the prefix %s" % (shown(name),
                                                                                         shown(prefix, 60)))
        result[name] = tensor
    note("stripped the prefix %s of %d of %d names" % (shown(prefix, 60), stripped, len(names)))
    return result


def lite_with_our_names(tensors):
    """EfficientNet-Lite's tensors under timm's names, which begin with no underscore; those of other networks as they are."""
    if LITE_STEM not in tensors or any("._se_reduce." in name for name in tensors):
        return tensors
    blocks = {name.split(".")[1] for name in tensors if name.startswith("_blocks.") and name.count(".") > 2}
    stages = LITE_STAGES.get(len(blocks))
    require(stages is not None and blocks == {str(i) for i in range(len(blocks))},
            "an EfficientNet of %d blocks, expected Lite0 with 16, or Lite1 or Lite2 with 21" % len(blocks))
    places = [(stage, block) for stage, count in enumerate(stages) for block in range(count)]
    result = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        ours = name
        if first in LITE_PARTS:
            ours = "%s.%s" % (LITE_PARTS[first], rest)
        elif first == "_blocks" and rest.count(".") > 1:
            number, part, last = rest.split(".", 2)
            expands = "_blocks.%s._expand_conv.weight" % number in tensors
            part = (LITE_EXPANDING_BLOCK if expands else LITE_BLOCK).get(part, part)
            ours = "blocks.%d.%d.%s.%s" % (places[int(number)] + (part, last))
        require(ours not in result, "two tensors get the name " + shown(ours))
        result[ours] = tensor
    note("gave the tensors of EfficientNet-Lite timm's names")
    return result


def named_tensors(state_dict, prefix=None, patterns=()):
    tensors, left_out = {}, []
    for name, value in wanted_items(state_dict, patterns):
        require(type(name) is str, "expected the names of tensors to be strings, found a %s"
                % (name.kind if type(name) is Key else kind_of(name)))
        try:
            name.encode("utf-8")
        except UnicodeEncodeError:
            raise Refused("the name %s is not valid Unicode" % shown(name)) from None
        name = unwrapped(name)
        if is_left_out(name) or is_ignored(name, patterns):
            continue
        value = filled(value)
        if is_unconvertible(value):
            left_out.append("%s (%s)" % (shown(name, 60), value.why))
            continue
        require(name not in tensors and name != "__metadata__", "duplicate or reserved name " + shown(name))
        tensors[name] = value
    if left_out:
        more = " and %d more" % (len(left_out) - 3) if len(left_out) > 3 else ""
        note("left out %s%s" % (", ".join(left_out[:3]), more))
    require(tensors, "no tensors")
    require(len(tensors) <= MAX_TENSORS, "%d tensors, expected at most %d" % (len(tensors), MAX_TENSORS))
    tensors = lite_with_our_names(without_prefix(tensors, prefix))
    tensors = {name: tensor for name, tensor in tensors.items() if not is_ignored(name, patterns)}
    require(tensors and "__metadata__" not in tensors, "no tensors, or one of the reserved name")
    return tensors


# Networks that faq does not have, by what they alone have. nn/looks_like.cpp names more of them when they are loaded.
STRANGERS = (
    (("conv1.0.weight", "conv1.3.weight", "conv1.6.weight", "layer1.0.conv1.weight"), "d: the stem has three convolutions"),
    (("layer1.0.se.fc1.weight",), "with squeeze-and-excitation"),
    (("patch_embed.proj.weight",), "a vision transformer"),
    (("conv_proj.weight", "encoder.layers.encoder_layer_0.ln_1.weight"), "a vision transformer"),
    (("stages.0.blocks.0.conv_dw.weight",), "a ConvNeXt"),
    (("conv_stem.weight", "blocks.0.0.se.conv_reduce.weight"), "an EfficientNet with squeeze-and-excitation"),
    (("_conv_stem.weight", "_blocks.0._se_reduce.weight"), "an EfficientNet with squeeze-and-excitation"),
    (("conv_stem.weight", "conv_head.bias"), "timm's MobileNetV3"),
    (("features.3.squeeze.weight",), "SqueezeNet"),
    (("inception3a.branch1.conv.weight",), "GoogLeNet"),
)
DEPTHS = {(2, 2, 2, 2): ("18", "26"), (3, 4, 6, 3): ("34", "50"), (3, 4, 23, 3): ("", "101"), (3, 8, 36, 3): ("", "152")}


def stranger(tensors):
    """What a network is that faq does not have; empty for all others."""
    for names, what in STRANGERS:
        if all(name in tensors for name in names):
            blocks = tuple(len({name.split(".")[1] for name in tensors if name.startswith("layer%d." % i)})
                           for i in range(1, 5))
            resnet = "resnet" + DEPTHS.get(blocks, ("", ""))["layer1.0.conv3.weight" in tensors]
            return "timm's " + resnet + what if what.startswith("d:") else \
                "a " + resnet + " " + what if what.startswith("with") else what
    return ""
