"""Reading and writing .safetensors: u64 header length, JSON header, raw little-endian tensors."""
import json
import struct

import numpy as np
import torch

TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16,
         "I64": torch.int64, "I32": torch.int32, "U8": torch.uint8}
NAMES = {dtype: name for name, dtype in TYPES.items()}


def load(path):
    """{name: tensor} of one file."""
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header = json.loads(f.read(size))
        data = bytearray(f.read())
    header.pop("__metadata__", None)
    return {name: view(data, entry) for name, entry in header.items()}


def view(data, entry):
    begin, end = entry["data_offsets"]
    if begin == end:
        return torch.zeros(entry["shape"], dtype=TYPES[entry["dtype"]])
    # A copy, because offsets need not be multiples of the element size.
    flat = torch.frombuffer(bytearray(data[begin:end]), dtype=TYPES[entry["dtype"]])
    return flat.reshape(entry["shape"])


def raw(t):
    """The bytes of a tensor; numpy knows no bfloat16, so 16-bit types go as integers."""
    t = t.detach().cpu().contiguous()
    if t.element_size() == 2:
        t = t.view(torch.int16)
    return np.asarray(t).tobytes()


def save(path, tensors):
    """Writes {name: tensor}, largest alignment first so that a reader can map every tensor."""
    header = {"__metadata__": {"format": "pt"}}
    blobs, at = [], 0
    for name, t in sorted(tensors.items(), key=lambda kv: (-kv[1].element_size(), kv[0])):
        blob = raw(t)
        header[name] = {"dtype": NAMES[t.dtype], "shape": list(t.shape),
                        "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.writelines(blobs)
