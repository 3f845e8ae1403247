"""The least of the chunked protocol, for CPython 3.9 and newer."""

import json
import sys


def read():
    header = sys.stdin.buffer.readline()
    if not header:
        return None, b""
    _, _, lengths = header.decode().partition(" ")
    n_meta, n_body = [int(x) for x in lengths.split(",")[1:]]
    metadata = json.loads(sys.stdin.buffer.read(n_meta))
    return metadata, sys.stdin.buffer.read(n_body)


def write(metadata, body=b""):
    data = json.dumps(metadata).encode()
    sys.stdout.buffer.write(b"chunked 1.0,%d,%d\n" % (len(data), len(body)) + data + body)
    sys.stdout.buffer.flush()
