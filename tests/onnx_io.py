"""ONNX files written by hand: small networks for tests of what runs through onnxruntime."""

from __future__ import annotations

import numpy as np


def _varint(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append((value & 0x7F) | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def _field(number: int, value) -> bytes:
    """One protobuf field: a number, or bytes or text with its length before it."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _tensor_type(name: str, shape) -> bytes:
    axes = b"".join(_field(1, _field(2, n) if isinstance(n, str) else _field(1, n)) for n in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, axes)))


def node(kind: str, inputs: str, output: str, **attributes) -> bytes:
    """An ONNX node; attributes are whole numbers or lists of them."""
    data = b"".join(_field(1, name) for name in inputs.split()) + _field(2, output) + _field(4, kind)
    for name, value in attributes.items():
        many = isinstance(value, list)
        body = b"".join(_field(8, n) for n in value) if many else _field(3, value)
        data += _field(5, _field(1, name) + body + _field(20, 7 if many else 2))
    return _field(1, data)


def onnx_model(inputs: dict, outputs: dict, nodes: list[bytes], constants: dict[str, np.ndarray]) -> bytes:
    """An ONNX file (protobuf, opset 12) over float32 tensors; inputs, outputs: name -> shape, words for open axes."""
    graph = b"".join(nodes) + _field(2, "test")
    for name, array in constants.items():
        array = np.asarray(array)
        kind = 7 if array.dtype == np.int64 else 1
        raw = array.astype("<i8" if kind == 7 else "<f4").tobytes()
        dims = b"".join(_field(1, n) for n in array.shape)
        graph += _field(5, dims + _field(2, kind) + _field(8, name) + _field(9, raw))
    graph += b"".join(_field(11, _tensor_type(*item)) for item in inputs.items())
    graph += b"".join(_field(12, _tensor_type(*item)) for item in outputs.items())
    return _field(1, 7) + _field(8, _field(1, "") + _field(2, 12)) + _field(7, graph)
