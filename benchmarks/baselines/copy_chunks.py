"""Baseline (b): a command that does nothing and copies each chunk back. Standard library only."""

import json
import re
import sys

HEADER = re.compile(rb"chunked\s+1\.0\s*,\s*(\d+)\s*,\s*(\d+)\s*\n")


def main():
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while True:
        match = HEADER.match(stdin.readline())
        if match is None:
            return
        metadata = json.loads(stdin.read(int(match.group(1))))
        body = stdin.read(int(match.group(2)))
        if metadata["action"] == "getinfo":
            reply, body = {"type": "stateful"}, b""
        else:
            reply = {"finished": metadata["finished"]}
        head = json.dumps(reply).encode()
        stdout.write(b"chunked 1.0,%d,%d\n" % (len(head), len(body)))
        stdout.write(head)
        stdout.write(body)
        stdout.flush()


main()
