"""Reading pickles without running them: objects become containers, descriptions of tensors, or mere names.

`pickle` imports what a file names and calls it. Here a small interpreter, which has no way to do either,
follows the opcodes that `pickletools` finds.
"""

import dataclasses
import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from rnnatlas.errors import CheckpointError

MOST_OPERATIONS = 3_000_000
MOST_COPIED = 1 << 28
"""Entries and bytes that are copied while a pickle is read: a small one may ask for the same ones forever."""

_HARMFUL = frozenset(
    [
        *("os", "posix", "nt", "subprocess", "sys", "shutil", "socket", "pty", "runpy", "importlib"),
        *("webbrowser", "pickle", "marshal", "code", "pip", "commands", "popen2", "multiprocessing"),
        *("ctypes", "threading", "asyncio", "tempfile", "urllib", "requests", "http", "ftplib"),
    ]
)
"""Modules that no honest checkpoint names. Nothing is run either way, but such a file is suspect."""
_HARMFUL_FUNCTIONS = frozenset(
    [
        f"builtins.{name}"
        for name in ("eval", "exec", "compile", "open", "__import__", "breakpoint", "execfile")
    ]
    + ["io.open", "_io.open", "io.FileIO", "_io.FileIO", "codecs.open"]
)


@dataclasses.dataclass(eq=False, slots=True)
class Name:
    """A class or function that a pickle names."""

    text: str


@dataclasses.dataclass(eq=False, slots=True)
class Inert:
    """Stands where an object of some class would be.

    Args:
        kind: Its class, or the function that would have made it.
        args: What it would have been made of.
        state: What it would have been given.
        entries: What would have been set or appended.
    """

    kind: str
    args: Any = ()
    state: Any = None
    entries: dict[Any, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False, slots=True)
class Storage:
    """Numbers of a tensor; `data` is where they lie, once it is known."""

    dtype: torch.dtype
    key: str
    length: int
    data: memoryview | None = None


@dataclasses.dataclass(eq=False, slots=True)
class Stored:
    """A tensor as a pickle describes it; `oddity` says what is odd about one that cannot be read.

    Views of conjugated complex numbers are `negated`: their numbers lie there with the other sign.
    """

    storage: Storage | None
    dtype: torch.dtype | None
    offset: Any = 0
    size: Any = ()
    stride: Any = ()
    oddity: str | None = None
    negated: bool = False
    sparse: tuple[Any, ...] = ()


@dataclasses.dataclass(eq=False, slots=True)
class Array:
    """A numpy array as a pickle describes it."""

    dtype: str | None = None
    shape: Any = ()
    fortran: bool = False
    data: Any = b""


class Unpickler:
    """Reads pickles one after the other.

    Args:
        persistent: Makes something of a persistent id.
        embedded: Makes a storage of the bytes of one, as `pickle.dump` of tensors writes them.
    """

    def __init__(self, persistent: Callable[[Any], Any], embedded: Callable[[bytes], Any]):
        self._persistent = persistent
        self._embedded = embedded
        self._left = MOST_COPIED
        self._operations = MOST_OPERATIONS
        self.quantised = False

    def load(self, file: io.BufferedIOBase) -> Any:
        """The next object of a file, which is left right behind it.

        Raises:
            CheckpointError: The pickle names what would do harm, or there is no end of it.
            Exception: It is none, or damaged; which exception, depends on what happened to it.
        """
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}
        for opcode, given, _ in pickletools.genops(cast("Any", file)):
            arg: Any = given
            self._operations -= 1
            if self._operations < 0:
                raise CheckpointError("its pickle has too many entries; save model.state_dict() alone")
            name = opcode.name
            if name in _VALUES:
                stack.append(arg)
            elif name in _GETS:
                stack.append(memo[arg])
            elif name in _PUTS:
                memo[len(memo) if name == "MEMOIZE" else arg] = stack[-1]
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name == "MARK":
                marks.append(len(stack))
            elif name in _TUPLES:
                count = _TUPLES[name]
                stack[-count:] = [tuple(stack[-count:])]
            elif name in _MARKED:
                start = marks.pop()
                items = stack[start:]
                del stack[start:]
                self._marked(name, arg, items, stack)
            elif name == "STOP":
                return stack.pop()
            elif name not in ("PROTO", "FRAME"):
                self._operate(name, arg, stack, marks)
        raise ValueError("no end")  # pickletools raises before

    def _operate(self, name: str, arg: Any, stack: list[Any], marks: list[int]) -> None:
        if name == "POP":
            if marks and marks[-1] == len(stack):
                marks.pop()
            else:
                stack.pop()
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "GLOBAL":
            stack.append(_named(*arg.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_named(module, attribute))
        elif name in ("PERSID", "BINPERSID"):
            stack.append(self._persistent(arg if name == "PERSID" else stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            args = stack.pop()
            stack.append(self._call(stack.pop(), args))
        elif name == "NEWOBJ_EX":
            _, args = stack.pop(), stack.pop()
            stack.append(self._call(stack.pop(), args))
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name == "APPEND":
            item = stack.pop()
            _extend(stack[-1], [item])
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set(stack[-1], [key, value])
        elif name in ("EXT1", "EXT2", "EXT4"):
            stack.append(Name(f"extension {arg}"))
        else:
            raise ValueError(f"opcode {name}")

    def _marked(self, name: str, arg: Any, items: list[Any], stack: list[Any]) -> None:
        """An opcode that takes all that was put down since the last mark."""
        if name == "TUPLE":
            stack.append(tuple(items))
        elif name in ("LIST", "FROZENSET"):
            stack.append(items)
        elif name == "DICT":
            stack.append({})
            _set(stack[-1], items)
        elif name in ("APPENDS", "ADDITEMS"):
            _extend(stack[-1], items)
        elif name == "SETITEMS":
            _set(stack[-1], items)
        elif name == "INST":
            stack.append(self._call(_named(*arg.split(" ", 1)), tuple(items)))
        elif name == "OBJ":
            stack.append(self._call(items[0], tuple(items[1:])))

    def _call(self, function: Any, args: Any) -> Any:
        """What a call of something would give, as far as tensors and containers go."""
        if not isinstance(function, Name):
            return Inert("something")
        text = function.text
        if not isinstance(args, tuple):
            return Inert(text)
        if text == "torch._tensor._rebuild_from_type_v2" and len(args) == 4:
            inner, kind, inner_args, _ = args
            value = self._call(inner, inner_args)
            plain = isinstance(kind, Name) and kind.text.rpartition(".")[2] in (
                "Tensor",
                "Parameter",
                "Buffer",
            )
            if isinstance(value, Stored) and not plain:
                value.oddity = f"a tensor of class {kind.text if isinstance(kind, Name) else 'unknown'}"
            return value
        if text == "torch.storage._load_from_bytes" and args and isinstance(args[0], bytes):
            self._spend(len(args[0]))
            return self._embedded(args[0])
        if text in _CONTAINERS:
            return self._container(_CONTAINERS[text], args)
        if text == "_codecs.encode" and args and isinstance(args[0], str):
            self._spend(len(args[0]))
            return args[0].encode("latin-1")
        self.quantised |= text == "torch._utils._rebuild_qtensor"
        return _TENSORS[text](args) if text in _TENSORS else Inert(text, args)

    def _container(self, kind: type, args: tuple[Any, ...]) -> Any:
        given = args[-1] if args else ()
        if not isinstance(given, (list, tuple, dict)):
            given = ()
        self._spend(len(given))
        if kind is list:
            return list(given)
        made: dict[Any, Any] = {}
        pairs = given.items() if isinstance(given, dict) else given
        for pair in pairs:
            if isinstance(pair, (list, tuple)) and len(pair) == 2:
                _set(made, list(pair))
        return made

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise CheckpointError("its pickle repeats itself without end; save model.state_dict() alone")


# --- opcodes ---------------------------------------------------------------------------------------

_VALUES = frozenset(
    [
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    ]
)
_GETS = frozenset(["GET", "BINGET", "LONG_BINGET"])
_PUTS = frozenset(["PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"])
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARKED = frozenset(
    [
        *("TUPLE", "LIST", "FROZENSET", "DICT", "APPENDS", "ADDITEMS", "SETITEMS", "INST", "OBJ"),
        "POP_MARK",  # only drops them
    ]
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
}


def _named(module: Any, attribute: Any) -> Name:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise TypeError("a name is a string")
    module = "builtins" if module == "__builtin__" else module
    name = f"{module}.{attribute}"
    if module.partition(".")[0] in _HARMFUL or name in _HARMFUL_FUNCTIONS:
        raise CheckpointError(
            f"expected tensors, found a pickle that names {name}, which would run code; "
            "nothing was run; do not load this file with anything else"
        )
    return Name(name)


def _build(target: Any, state: Any) -> None:
    if isinstance(target, Inert):
        target.state = state
    elif isinstance(target, Array) and isinstance(state, tuple) and len(state) == 5:
        _, target.shape, dtype, target.fortran, target.data = state
        target.dtype = _numpy_dtype(dtype)


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, Inert):
        for item in items:
            target.entries[len(target.entries)] = item


def _set(target: Any, items: list[Any]) -> None:
    entries = target.entries if isinstance(target, Inert) else target
    if isinstance(entries, dict):
        entries.update(zip(map(_key, items[::2]), items[1::2], strict=True))


def _key(key: Any) -> Any:
    """What may be a key at no cost: tuples within tuples take forever to hash."""
    if isinstance(key, tuple):
        plain = all(isinstance(part, (str, int, float, bytes)) for part in key)
        return key if plain else object()
    return key if isinstance(key, (str, int, float, bytes, Name, Inert, type(None))) else object()


# --- tensors ---------------------------------------------------------------------------------------

_CONTAINERS: Mapping[str, type] = {
    "collections.OrderedDict": dict,
    "collections.defaultdict": dict,
    "collections.Counter": dict,
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.set": list,
    "builtins.frozenset": list,
    "torch.Size": list,
}
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
    "QUInt4x2Storage": torch.uint8,
    "QUInt2x4Storage": torch.uint8,
    "UntypedStorage": torch.uint8,
}


def _dense(args: tuple[Any, ...]) -> Any:
    storage, offset, size, stride = args[:4]
    if not isinstance(storage, Storage):
        return Inert("a tensor without its storage")
    return Stored(storage, storage.dtype, offset, size, stride, negated=_negated(args[6:7]))


def _negated(metadata: tuple[Any, ...]) -> bool:
    return any(isinstance(each, dict) and each.get("neg") is True for each in metadata)


def _dense_of_type(args: tuple[Any, ...]) -> Any:
    tensor = _dense(args)
    if isinstance(tensor, Stored):
        tensor.dtype, tensor.negated = _torch_dtype(args[6]), _negated(args[7:8])
    return tensor


def _quantised(args: tuple[Any, ...]) -> Any:
    tensor = _dense(args)
    if isinstance(tensor, Stored):
        tensor.oddity = "a quantised tensor"
    return tensor


def _sparse(args: tuple[Any, ...]) -> Any:
    layout, data = args[0], args[1]
    text = layout.args[0] if isinstance(layout, Inert) and layout.args else layout
    return Stored(None, None, sparse=(text, *data))


def _of_device(args: tuple[Any, ...]) -> Any:
    return Stored(
        None, _torch_dtype(args[0]), size=args[1], oddity="a tensor without its data (of device meta)"
    )


def _parameter(args: tuple[Any, ...]) -> Any:
    return args[0]


def _array(args: tuple[Any, ...]) -> Array:
    return Array()


def _array_of_buffer(args: tuple[Any, ...]) -> Array:
    return Array(_numpy_dtype(args[1]), args[2], args[3] == "F", args[0])


_TENSORS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _dense,
    "torch._utils._rebuild_tensor_v2": _dense,
    "torch._utils._rebuild_tensor_v3": _dense_of_type,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_sparse_csr_tensor": _sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _of_device,
    "torch._utils._rebuild_nested_tensor": lambda args: Stored(None, None, oddity="a nested tensor"),
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    **{
        f"{package}.{function}": make
        for package in ("numpy.core", "numpy._core")
        for function, make in {
            "multiarray._reconstruct": _array,
            "numeric._frombuffer": _array_of_buffer,
        }.items()
    },
}


def _torch_dtype(name: Any) -> torch.dtype | None:
    found = getattr(torch, name.text.removeprefix("torch."), None) if isinstance(name, Name) else None
    return found if isinstance(found, torch.dtype) else None


def _numpy_dtype(dtype: Any) -> str | None:
    """Its name with its byte order, "<f8", where its items are numbers."""
    if not isinstance(dtype, Inert) or dtype.kind != "numpy.dtype" or not dtype.args:
        return None
    text, state = dtype.args[0], dtype.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    number = isinstance(text, str) and text[:1] in ("f", "i", "u", "b") and text[1:] in ("1", "2", "4", "8")
    return f"{'>' if order == '>' else '<'}{text}" if number else None
