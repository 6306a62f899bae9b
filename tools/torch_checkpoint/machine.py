"""The pickle machine. It calls and imports nothing."""
import pickletools
import struct

from .messages import MalformedPickle, Refused, brief, cause_of, require
from .values import Array, Global, Opaque, OrderedDict, Tensor, kind_of, set_item
from .stand_ins import NumpyDtype, RECONSTRUCTORS, STAND_INS, array_of, parameter, tensor_of

# Far beyond any honest file, near enough that a hostile one cannot exhaust the machine.
MAX_PICKLE_BYTES = 64 << 20
MAX_OPCODES = 8_000_000
MAX_DEPTH = 64
MAX_STACK = 1_000_000


class Machine:
    """Runs one pickle. `step_NAME` is the meaning of the opcode NAME; an opcode without one is refused."""

    def __init__(self, persistent_load=None):
        self.persistent_load = persistent_load
        self.stack = []
        self.marks = []
        self.memo = {}

    def run(self, stream):
        for count, (opcode, argument, position) in enumerate(pickletools.genops(stream)):
            require(count < MAX_OPCODES, "a pickle of more than %d instructions" % MAX_OPCODES)
            if opcode.name == "STOP":
                require(len(self.stack) == 1 and not self.marks, "STOP with %d objects" % len(self.stack))
                return self.stack[0]
            step = getattr(self, "step_" + opcode.name, None)
            require(step, "pickle opcode %s at byte %d is not allowed" % (opcode.name, position))
            try:
                step(argument)
            except (IndexError, KeyError):
                raise Refused("pickle opcode %s at byte %d: nothing to work on" % (opcode.name, position)) from None
            require(len(self.stack) <= MAX_STACK, "pickle stack deeper than %d" % MAX_STACK)
        raise Refused("pickle without STOP")

    def pop(self):
        require(not self.marks or len(self.stack) > self.marks[-1], "pickle stack: a mark where a value belongs")
        return self.stack.pop()

    def pop_to_mark(self):
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def push(self, value):
        self.stack.append(value)

    def ignore(self, _):
        pass

    def step_MARK(self, _):
        require(len(self.marks) < MAX_DEPTH, "pickle nested deeper than %d" % MAX_DEPTH)
        self.marks.append(len(self.stack))

    step_PROTO = step_FRAME = ignore

    def step_POP(self, _):
        if self.marks and len(self.stack) == self.marks[-1]:
            self.marks.pop()
        else:
            self.pop()

    def step_POP_MARK(self, _):
        self.pop_to_mark()

    def step_DUP(self, _):
        value = self.pop()
        self.stack += [value, value]

    step_BININT = step_BININT1 = step_BININT2 = step_LONG1 = step_LONG4 = step_BINFLOAT = push
    step_INT = step_LONG = step_FLOAT = step_STRING = step_UNICODE = push  # protocol 0
    step_BINUNICODE = step_SHORT_BINUNICODE = step_BINUNICODE8 = push
    step_BINSTRING = step_SHORT_BINSTRING = push  # Python 2
    step_BINBYTES = step_SHORT_BINBYTES = push

    def step_NONE(self, _):
        self.push(None)

    def step_NEWTRUE(self, _):
        self.push(True)

    def step_NEWFALSE(self, _):
        self.push(False)

    def step_EMPTY_LIST(self, _):
        self.push([])

    def step_EMPTY_DICT(self, _):
        self.push({})

    def step_LIST(self, _):
        self.push(self.pop_to_mark())

    def step_DICT(self, _):
        values = self.pop_to_mark()
        self.push({})
        self.set_items(values)

    def step_EMPTY_TUPLE(self, _):
        self.push(())

    def step_TUPLE(self, _):
        self.push(tuple(self.pop_to_mark()))

    def tuple_of(self, count):
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def step_TUPLE1(self, _):
        self.tuple_of(1)

    def step_TUPLE2(self, _):
        self.tuple_of(2)

    def step_TUPLE3(self, _):
        self.tuple_of(3)

    def step_EMPTY_SET(self, _):
        self.push(Opaque("set"))

    def step_ADDITEMS(self, _):
        self.pop_to_mark()
        require(type(self.stack[-1]) is Opaque, "ADDITEMS to a " + kind_of(self.stack[-1]))

    def step_FROZENSET(self, _):
        self.pop_to_mark()
        self.push(Opaque("frozenset"))

    def step_BYTEARRAY8(self, value):
        self.push(bytes(value))

    def extend(self, values):
        if type(self.stack[-1]) is Opaque:
            return
        require(type(self.stack[-1]) is list, "APPENDS to a " + kind_of(self.stack[-1]))
        self.stack[-1].extend(values)

    def step_APPEND(self, _):
        self.extend([self.pop()])

    def step_APPENDS(self, _):
        self.extend(self.pop_to_mark())

    def set_items(self, values):
        target = self.stack[-1]
        require(len(values) % 2 == 0, "SETITEMS of a key without value")
        require(type(target) in (dict, OrderedDict, Opaque), "SETITEMS on a " + kind_of(target))
        for key, value in zip(values[::2], values[1::2]):
            set_item(target, key, value)

    def step_SETITEM(self, _):
        value = self.pop()
        self.set_items([self.pop(), value])

    def step_SETITEMS(self, _):
        self.set_items(self.pop_to_mark())

    def step_BINPUT(self, index):
        require(0 <= index < 1 << 32, "a memo of number %s" % brief(index))
        self.memo[index] = self.stack[-1]

    step_LONG_BINPUT = step_PUT = step_BINPUT

    def step_MEMOIZE(self, _):
        self.memo[len(self.memo)] = self.stack[-1]

    def step_BINGET(self, index):
        self.push(self.memo[index])

    step_LONG_BINGET = step_GET = step_BINGET

    def step_GLOBAL(self, argument):
        self.push(Global(argument.replace(" ", ".")))

    def step_STACK_GLOBAL(self, _):
        name, module = self.pop(), self.pop()
        require(type(name) is str and type(module) is str, "STACK_GLOBAL of something else than two strings")
        self.push(Global(module + "." + name))

    def step_EXT1(self, code):
        self.push(Global("extension.%d" % code))

    step_EXT2 = step_EXT4 = step_EXT1

    def call(self, function, arguments, what):
        """Never a call: a stand-in, or a marker."""
        require(type(arguments) is tuple, "%s with a %s as arguments" % (what, kind_of(arguments)))
        require(type(function) in (Global, Opaque), "%s of a %s" % (what, kind_of(function)))
        name = function.name
        if name in RECONSTRUCTORS and arguments and type(arguments[0]) is Global:
            name = arguments[0].name
            arguments = arguments[1:] if "newobj" in function.name else arguments
        if type(function) is Global and name in STAND_INS:
            try:
                return STAND_INS[name](*arguments)
            except MalformedPickle:
                raise
            except Refused as error:
                return Opaque(name, error.with_traceback(None))
        return Opaque(name)

    def step_REDUCE(self, _):
        arguments, function = self.pop(), self.pop()
        self.push(self.call(function, arguments, "REDUCE"))

    def step_NEWOBJ(self, _):
        arguments, kind = self.pop(), self.pop()
        require(type(arguments) is tuple and type(kind) in (Global, Opaque), "NEWOBJ of a " + kind_of(kind))
        made = kind.name == "collections.OrderedDict" or STAND_INS.get(kind.name) is parameter
        self.push(self.call(kind, arguments, "NEWOBJ") if made else Opaque(kind.name))

    def step_NEWOBJ_EX(self, _):
        self.pop()
        self.step_NEWOBJ(None)

    def step_INST(self, argument):
        self.pop_to_mark()
        self.push(Opaque(argument.replace(" ", ".")))

    def step_OBJ(self, _):
        values = self.pop_to_mark()
        require(values and type(values[0]) in (Global, Opaque), "OBJ without a class")
        self.push(Opaque(values[0].name))

    def step_BUILD(self, _):
        state = self.pop()
        target = self.stack[-1]
        if type(target) is Array:
            try:
                require(type(state) is tuple and len(state) == 5, "a %s without data" % target.name)
                target.tensor = tensor_of(state[0], target.name) if target.name == "Parameter" else array_of(*state[1:])
            except Refused as error:
                target.tensor = Opaque(target.name, error.with_traceback(None))
        elif type(target) is NumpyDtype:
            target.order = state[1] if type(state) is tuple and len(state) > 1 and type(state[1]) is str else "?"
        else:
            # Attributes, of which a state dict needs none.
            require(type(target) in (Opaque, OrderedDict, Tensor), "BUILD of attributes on a " + kind_of(target))

    def step_BINPERSID(self, _):
        require(self.persistent_load, "a persistent id where none belongs")
        self.push(self.persistent_load(self.pop()))

    def step_BINBYTES8(self, value):
        self.push(value)


class Bounded:
    """A file as pickletools wants it, which refuses to read beyond `limit` bytes or the end of the file."""

    def __init__(self, file, size, limit):
        self.file = file
        self.tell = file.tell
        self.size = size
        self.end = min(size, file.tell() + limit)

    def read(self, count):
        position = self.tell()
        require(position < self.size, "the file ends within a pickle, at byte %d" % self.size)
        require(count <= self.end - position, "pickle data of %s bytes at byte %d reach beyond the end or the limit"
                % (brief(count), position))
        return self.file.read(count)

    def readline(self):
        line = self.file.readline(min(65536, self.end - self.tell()))
        require(line.endswith(b"\n"), "the file ends within a pickle, at byte %d" % self.tell())
        return line


def run_pickle(file, size, persistent_load=None, limit=MAX_PICKLE_BYTES):
    try:
        return Machine(persistent_load).run(Bounded(file, size, limit))
    except (ValueError, OverflowError, struct.error) as error:  # UnicodeError is a ValueError
        raise Refused("malformed pickle: " + cause_of(error)) from None
