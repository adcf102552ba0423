"""The reference reader's verdict on each file of stdin (8 bytes of length, then the file): one line each, 1 accepted, 0 refused."""

import sys

from safetensors import SafetensorError, deserialize

stream = sys.stdin.buffer
while length := stream.read(8):
    data = stream.read(int.from_bytes(length, "little"))
    try:
        deserialize(data)
        print(1)
    except (SafetensorError, OverflowError):
        print(0)
