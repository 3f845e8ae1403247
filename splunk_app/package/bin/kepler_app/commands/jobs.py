"""``keplerjobs``: lists jobs, shows one, waits for one, cancels one."""

from __future__ import annotations

from kepler_app.errors import SearchError
from kepler_app.generating import GeneratingCommand
from kepler_app.grammar import timeout_s
from kepler_app.lexer import choice, integer
from kepler_app.tables import JOB_COLUMNS, job_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ACTIONS = ("list", "status", "wait", "cancel")
STATES = ("queued", "running", "succeeded", "failed", "cancelled")
_PAGE = 500
_FORM = "Write keplerjobs [list] [state=<state>] [count=<n>], or keplerjobs status|wait|cancel <job id> [timeout=<time>]"


class KeplerJobs(GeneratingCommand):
    """Everybody sees their own jobs, administrators all."""

    name = "keplerjobs"

    def read_arguments(self) -> None:
        take = self.arguments.take
        words = [word.text for word in self.arguments.words]
        self._action = choice("action", take("action") or (words.pop(0) if words else "list"), ACTIONS)
        self._id = take("id") or (words.pop(0) if words else "")
        state = take("state")
        self._state = choice("state", state, STATES) if state else ""
        self._count = integer("count", take("count", default="100"), 1, 100_000)
        self._timeout_s = timeout_s(take("timeout"))
        self.arguments.refuse_rest(self.name, ("action", "id", "state", "count", "timeout"))
        if words or bool(self._id) == (self._action == "list"):
            raise SearchError(f"{_FORM}.")
        self.changes_state = self._action == "cancel"

    def table(self) -> tuple[list[str], list[list[str]]]:
        return JOB_COLUMNS, [job_row(job) for job in self._jobs()]

    def _jobs(self) -> list[Any]:
        from kepler.v1 import jobs_pb2

        if self._action == "list":
            return self._list()
        request = jobs_pb2.GetJobRequest(caller=self.caller(), id=self._id)
        if self._action == "wait":
            from kepler_app.jobs import wait_for

            job, ended = wait_for(self.client, self.caller(), self._id, self._timeout_s)
            if not ended:
                self.say(
                    "WARN",
                    f"The job {self._id} has not ended within {self._timeout_s:g} seconds; it goes on.",
                )
            return [job]
        method = "CancelJob" if self._action == "cancel" else "GetJob"
        return [self.client.call(f"JobService/{method}", request, jobs_pb2.Job)]

    def _list(self) -> list[Any]:
        from kepler.v1 import jobs_pb2

        found: list[Any] = []
        token = ""
        while len(found) < self._count:
            request = jobs_pb2.ListJobsRequest(
                caller=self.caller(),
                state=self._state,
                page_size=min(_PAGE, self._count - len(found)),
                page_token=token,
            )
            reply = self.client.call("JobService/ListJobs", request, jobs_pb2.ListJobsResponse)
            found.extend(reply.jobs)
            token = reply.next_page_token
            if not token:
                break
        return found[: self._count]
