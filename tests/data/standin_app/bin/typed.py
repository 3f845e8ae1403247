"""Answer as the arguments say and echo what comes.

`type=T` and `fields=a,b` make the getinfo reply; `add=NAME` appends a column that counts the rows of the chunk,
`drop=odd` leaves every second row out, `keep=a,b` echoes only these columns, `show=info` gives one row about us.
"""

import csv
import io
import json
import os
import sys

import chunks

metadata, _ = chunks.read()
info = metadata["searchinfo"]
options = dict(a.split("=", 1) for a in info["args"] if "=" in a)
reply = {"type": options.get("type", "stateful")}
if "fields" in options:
    reply["required_fields"] = options["fields"].split(",")
chunks.write(reply)
while True:
    message, body = chunks.read()
    if message is None:
        sys.exit(0)
    rows = list(csv.reader(io.StringIO(body.decode("utf-8"), newline="")))
    header, rows = (rows[0], rows[1:]) if rows else ([], [])
    if options.get("show") == "info":
        facts = {
            "argv": sys.argv[1:],
            "env": sorted(os.environ),
            "version": "{}.{}".format(*sys.version_info),
            "getinfo": metadata,
            "header": header,
            "n_rows": len(rows),
        }
        header, rows = ["facts"], [[json.dumps(facts)]]
    if "add" in options:
        header = [*header, options["add"]]
        rows = [[*row, str(i)] for i, row in enumerate(rows)]
    if options.get("drop") == "odd":
        rows = rows[::2]
    if "keep" in options:
        places = [header.index(n) for n in options["keep"].split(",")]
        header, rows = [header[p] for p in places], [[row[p] for p in places] for row in rows]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([header, *rows] if header else rows)
    chunks.write({"finished": message["finished"]}, out.getvalue().encode())
    if message["finished"]:
        sys.exit(0)
