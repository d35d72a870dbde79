"""An ONNX model without its largest tensors, which stay in the file; protobuf would copy them twice."""

from collections.abc import Iterator

LARGE = 1 << 20
"""Bytes of a tensor that stays in the file."""
HERE = "//in this file"
"""Stands where the name of another file would, of tensors that lie in the file of their model."""
_GRAPH, _INITIALIZER, _RAW, _EXTERNAL, _LOCATION = 7, 5, 9, 13, 14
"""Fields of onnx.proto: of ModelProto, GraphProto, and three of TensorProto."""


def lean(data: memoryview) -> bytes:
    """The model, whose large initialisers say where in `data` they lie, as if it were another file.

    Raises:
        ValueError: It is no protobuf.
    """
    return b"".join(_model(data))


def place_of(tensor: object) -> slice | None:
    """Where in the file of its model a TensorProto has its bytes; None where they lie elsewhere."""
    about = {each.key: each.value for each in getattr(tensor, "external_data", ())}
    if about.get("location") != HERE:
        return None
    start, length = int(about.get("offset", "0")), int(about.get("length", "0"))
    return slice(start, start + length)


def _model(data: memoryview) -> Iterator[bytes]:
    for number, whole, inner in _fields(data, 0, len(data)):
        if number != _GRAPH:
            yield bytes(data[whole])
            continue
        graph = [
            _field(_INITIALIZER, _without_raw(data, part))
            if field == _INITIALIZER and part.stop - part.start > LARGE
            else bytes(data[both])
            for field, both, part in _fields(data, inner.start, inner.stop)
        ]
        yield _field(_GRAPH, b"".join(graph))


def _without_raw(data: memoryview, part: slice) -> bytes:
    """A TensorProto whose raw bytes are those of a place in `data`."""
    kept = []
    for number, whole, inner in _fields(data, part.start, part.stop):
        if number != _RAW:
            kept.append(bytes(data[whole]))
            continue
        about = {"location": HERE, "offset": str(inner.start), "length": str(inner.stop - inner.start)}
        for key, value in about.items():
            kept.append(_field(_EXTERNAL, _field(1, key.encode()) + _field(2, value.encode())))
        kept.append(bytes([_LOCATION << 3, 1]))
    return b"".join(kept)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, slice, slice]]:
    """Number of each field, where all of it lies, and where what is in it does."""
    while at < end:
        first = at
        tag, at = _read_varint(data, at, end)
        kind = tag & 7
        if kind == 0:
            inner = at
            _, at = _read_varint(data, at, end)
        elif kind == 2:
            length, inner = _read_varint(data, at, end)
            at = inner + length
        elif kind in (1, 5):
            inner, at = at, at + (8 if kind == 1 else 4)
        else:
            raise ValueError("no protobuf")
        if at > end:
            raise ValueError("cut off")
        yield tag >> 3, slice(first, at), slice(inner, at)


def _read_varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
    raise ValueError("no protobuf")
