"""Runs one persistent REST handler: `python persistent_driver.py SCRIPT MODULE.CLASS LIBRARY`.

It stands for Splunk's own persistconn/appserver.py, whose wire format is not public: here a request is one line of
JSON on stdin (the text that `handle` gets), a reply one line of JSON on stdout. Runs under CPython 3.9.
"""

import importlib
import json
import os
import sys
import traceback


def main():
    script, handler, library = sys.argv[1:4]
    replies = os.fdopen(os.dup(1), "wb")
    # A handler that prints must not garble the replies.
    os.dup2(2, 1)
    sys.path[0] = os.path.dirname(script)
    sys.path.append(library)
    module_name, _, class_name = handler.rpartition(".")
    application = None
    for line in sys.stdin.buffer:
        try:
            if application is None:
                module = importlib.import_module(module_name)
                application = getattr(module, class_name)(script, "")
            result = application.handle(json.loads(line))
            sys.stdout.flush()
            if isinstance(result, bytes):
                result = result.decode()
            answer = json.loads(result) if isinstance(result, str) else result
            reply = {"ok": answer}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": '"%s" from python handler: "%s"' % (type(error), error)}  # noqa: UP031
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


main()
