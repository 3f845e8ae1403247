"""A persistent REST handler that shows what it was asked."""

import json
import os
import sys

from splunk.persistconn.application import PersistentServerConnectionApplication


class Broker(PersistentServerConnectionApplication):
    def __init__(self, command_line, command_arg):
        super().__init__()
        self.asked = 0

    def handle(self, in_string):
        request = json.loads(in_string)
        self.asked += 1
        print("prints do not garble the reply")
        how = request.get("path_info")
        if how == "raise":
            raise ValueError("broken")
        if how == "exit":
            os._exit(3)
        if how == "text":
            return json.dumps(
                {"payload": "plain", "status": 202, "headers": {"Content-Type": "text/plain", "X-A": "b"}}
            )
        if how == "bare":
            return ["not", "a", "dict"]
        facts = {
            "request": request,
            "asked": self.asked,
            "pid": os.getpid(),
            "python": "{}.{}".format(*sys.version_info),
        }
        return {"payload": facts, "status": 200}
