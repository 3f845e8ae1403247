"""Go wrong in the one way the first argument names."""

import sys
import time

import chunks

metadata, _ = chunks.read()
how = metadata["searchinfo"]["args"][0]
messages = {"messages": [["ERROR", "it went wrong"]]}
if how == "die_early":
    raise ImportError("no such module")
if how == "error_getinfo":
    chunks.write({"error": "bad option x", "finished": True})
    sys.exit(1)
if how == "inspector_getinfo":
    chunks.write({"inspector": messages, "finished": True})
    sys.exit(1)
if how == "unknown_key":
    chunks.write({"type": "streaming", "requires_preop": True})
if how == "bad_type":
    chunks.write({"type": "eventing"})
if how == "preop":
    chunks.write({"type": "reporting", "streaming_preop": "x"})
if how == "bad_header":
    print("hello")
    sys.exit(0)
if how == "long_header":
    sys.stdout.write("x" * 1000)
    sys.stdout.flush()
if how == "bad_json":
    sys.stdout.write("chunked 1.0,3,0\nnot")
    sys.stdout.flush()
chunks.write({"type": "stateful"})
message, body = chunks.read()
if message is None:
    sys.exit(0)
if how == "error_execute":
    chunks.write({"inspector": {"messages": [["WARN", "careful"]]}, "error": "it broke", "finished": True})
    sys.exit(1)
if how == "told_twice":
    chunks.write({"inspector": {"messages": [["ERROR", "it broke"]]}, "error": "it broke", "finished": True})
    sys.exit(1)
if how == "inspector_done":
    chunks.write({"inspector": messages, "finished": True})
    sys.exit(1)
if how == "inspector_mid":
    chunks.write({"inspector": messages, "finished": False})
    sys.exit(3)
if how == "odd_inspector":
    chunks.write({"inspector": {"messages": ["x", ["LOUD", "hey"]]}, "finished": True})
if how == "silent_exit":
    sys.exit(0)
if how == "stderr":
    sys.stderr.write("a warning\nand more\n")
    chunks.write({"finished": True}, body)
if how == "two_replies":
    # In one write, so that both are there when the first is read.
    reply = b'chunked 1.0,18,0\n{"finished":false}'
    sys.stdout.buffer.write(reply + reply)
    sys.stdout.flush()
    chunks.read()
if how == "slow":
    time.sleep(30)
if how == "big":
    chunks.write({"finished": True}, b"a\n" + b"1\n" * 1000)
if how == "unfinished":
    chunks.write({"finished": False}, body)
    chunks.read()
if how == "early_end":
    chunks.write({"finished": True}, body)
