"""References in the form that `verify` reads, of those that lie in another form.

    references.py onnx FOLDER OUT      from a node test of ONNX: test_data_set_0/*.pb
    references.py integer REF OUT      from int8 inputs and outputs, whose scales are in the metadata
"""

import ast
import json
import struct
import sys
from pathlib import Path


def write(path, tensors):
    """Float32 tensors, each a shape and a list of numbers."""
    header, data = {}, b""
    for name, (shape, values) in tensors.items():
        part = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def fields(data):
    """The fields of a protocol buffer: number, and an integer or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 2:
            length = varint()
            yield key >> 3, data[at : at + length]
            at += length
        else:
            width = {1: 8, 5: 4}[key & 7]
            yield key >> 3, data[at : at + width]
            at += width


def tensor(path):
    """A TensorProto of float32: dims 1, float_data 4, raw_data 9, name 8."""
    shape, values, name = [], [], ""
    for number, value in fields(path.read_bytes()):
        if number == 1:
            if isinstance(value, int):
                shape.append(value)
            else:
                shape += list(value)
        elif number in (4, 9):
            values += struct.unpack(f"<{len(value) // 4}f", value)
        elif number == 8:
            name = value.decode()
    return name, (shape, values)


def onnx(folder, out):
    names = {"X": "lstm.0.X", "Y": "lstm.0.Y", "Y_h": "lstm.0.Y_h", "Y_c": "lstm.0.Y_c"}
    files = sorted(Path(folder, "test_data_set_0").glob("*.pb"))
    tensors = dict(tensor(path) for path in files)
    write(out, {names[name]: value for name, value in tensors.items() if name in names})


def integer(reference, out):
    data = Path(reference).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__")
    scales = {key: ast.literal_eval(metadata[key])[0][1] for key in ("inputs", "outputs")}
    tensors = {}
    for name, info in header.items():
        start, end = (8 + length + place for place in info["data_offsets"])
        scale, zero = scales["inputs" if ".x" in name else "outputs"]
        numbers = struct.unpack(f"{end - start}b", data[start:end])
        tensors[name] = (info["shape"], [(number - zero) * scale for number in numbers])
    write(out, tensors)


{"onnx": onnx, "integer": integer}[sys.argv[1]](*sys.argv[2:])
