"""Rows from nothing: `count=N` rows in `parts=M` replies."""

import sys

import chunks

metadata, _ = chunks.read()
options = dict(a.split("=", 1) for a in metadata["searchinfo"]["args"])
reply = {"type": options.get("type", "stateful"), "generating": True}
if "fields" in options:
    reply["required_fields"] = options["fields"].split(",")
chunks.write(reply)
count, parts = int(options.get("count", "3")), int(options.get("parts", "1"))
for part in range(parts):
    message, body = chunks.read()
    if message is None:
        sys.exit(0)
    asked = body.decode().strip().replace('"', '""')
    lines = ["n,part,asked", *(f'{i},{part},"{asked}"' for i in range(count))]
    chunks.write({"finished": part == parts - 1}, ("\r\n".join(lines) + "\r\n").encode())
