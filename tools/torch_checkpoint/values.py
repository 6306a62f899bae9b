"""What running a pickle makes: descriptions of tensors and storages, and markers of everything else."""
from .messages import Unconvertible, require, shown

# Storage class: safetensors dtype, bytes of an element. The last three have no class: their tensors name a dtype.
STORAGES = {
    "torch.FloatStorage": ("F32", 4),
    "torch.HalfStorage": ("F16", 2),
    "torch.BFloat16Storage": ("BF16", 2),
    "torch.DoubleStorage": ("F64", 8),
    "torch.CharStorage": ("I8", 1),
    "torch.ByteStorage": ("U8", 1),
    "torch.BoolStorage": ("U8", 1),
    "torch.ShortStorage": ("I16", 2),
    "torch.IntStorage": ("I32", 4),
    "torch.LongStorage": ("I64", 8),
    "uint16": ("U16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1),
    "float8_e5m2": ("F8_E5M2", 1),
}

# What is widened when written, without loss, and to what: the type, the bytes of an element, array's name of it. faq
# reads no other types than these and those above, and refuses a file that has one.
WIDENED = {"I16": ("I32", 4, "i"), "U16": ("I32", 4, "i"), "F8_E4M3": ("F32", 4, "f"), "F8_E5M2": ("F32", 4, "f")}

# Bytes of an element of other types, of which nothing is converted.
FOREIGN = {"torch.storage.UntypedStorage": 1, "torch.UntypedStorage": 1, "torch.ComplexFloatStorage": 8,
           "torch.ComplexDoubleStorage": 16, "torch.QInt8Storage": 1, "torch.QUInt8Storage": 1,
           "torch.QInt32Storage": 4, "torch.QUInt4x2Storage": 1, "torch.QUInt2x4Storage": 1}


class Global:
    """A name the pickle mentions. It is never looked up."""
    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name


class Opaque(dict):
    """An object of the class or function `name`: whatever made it or filled it has been dropped, except the items of
    those that are dicts. `why`: what is wrong with a tensor that could not be described (an error)."""
    __slots__ = ("name", "why")

    def __init__(self, name, why=None):
        super().__init__()
        self.name = name
        self.why = why


class Key:
    """What is not a plain value, as key of a dict."""

    def __init__(self, kind):
        self.kind = kind


class OrderedDict(dict):
    pass


class Storage:
    """`numel` elements of the stored object `key`, starting at element `start`. `data`: the bytes themselves, of what
    was stored in the pickle."""

    def __init__(self, key, kind, stored_numel, start, numel, data=None):
        self.key = key
        self.kind = kind
        self.dtype, self.itemsize = STORAGES.get(kind, (None, FOREIGN.get(kind, 1)))
        self.stored_numel = stored_numel
        self.start = start
        self.numel = numel
        self.data = data

    def part_of(self, stored):
        """The bytes of the view among those of the stored object."""
        part = memoryview(stored)[self.start * self.itemsize:(self.start + self.numel) * self.itemsize]
        require(len(part) == self.numel * self.itemsize, "the file was cut short while it was being read")
        return part

    def retyped(self, kind):
        """The same bytes as elements of another type."""
        itemsize = STORAGES[kind][1]
        sizes = [count * self.itemsize for count in (self.stored_numel, self.start, self.numel)]
        require(sizes[1] % itemsize == 0, "_rebuild_tensor_v3: a storage that begins within an element")
        return Storage(self.key, kind, *(size // itemsize for size in sizes), data=self.data)


class Array:
    """An array of numpy, or a Parameter of PyTorch 0.1, which a pickle makes empty and fills later."""
    __slots__ = ("name", "tensor")

    def __init__(self, name):
        self.name = name
        self.tensor = None


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.strides = strides
        self.dtype, self.itemsize, _ = WIDENED.get(storage.dtype, (storage.dtype, storage.itemsize, None))

    @property
    def numel(self):
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def bytes(self):
        return self.numel * self.itemsize


def filled(value):
    """The value itself, of what is made empty and filled later."""
    return value.tensor if type(value) is Array else value


def is_unconvertible(value):
    return type(value) is Opaque and type(value.why) is Unconvertible


def kind_of(value):
    if type(value) in (Global, Opaque):
        name = shown(value.name, 80)
        return name if name[1:-1] != value.name or not value.name.isprintable() else value.name
    return type(value).__name__


def why_of(value):
    return ", found %s%s" % (kind_of(value), " (%s)" % value.why if type(value) is Opaque and value.why else "")


def set_item(target, key, value):
    # Hashing what a file has made may take for ever: of a tuple of tuples, or of whole numbers that are chosen so.
    plain = type(key) in (str, bytes, float, bool, type(None)) or (type(key) is int and abs(key) < 1 << 63)
    if not plain:
        key = Key(kind_of(key))
    require(key not in target or type(target) is Opaque, "duplicate key %s" % shown(key))
    target[key] = value
