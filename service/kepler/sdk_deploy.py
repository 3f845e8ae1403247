"""What the SDK adds to deployments: options of any type, and waiting for the end."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kepler.client import KeplerClient
from kepler.client.fleet_records import DeploymentRecord
from kepler.core.jobs import JobState


def option_texts(options: Mapping[str, object] | None) -> dict[str, str]:
    """Options as the service takes them.

    >>> option_texts({"stages": [0.1, 1], "allow_downgrade": True, "windows": [{"as": "m"}]})
    {'stages': '0.1,1', 'allow_downgrade': 'true', 'windows': '[{"as": "m"}]'}
    """
    return {name: _text(value) for name, value in (options or {}).items()}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        if all(isinstance(item, int | float) for item in value):
            return ",".join(f"{item:g}" for item in value)
        return json.dumps(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def wait_for_deployment(client: KeplerClient, deployment_id: str) -> DeploymentRecord:
    """Wait for the end of a deployment's job. Raises what it failed with."""
    from kepler.sdk_train import job_error

    for job in client.watch_job(deployment_id):
        if job.state.final and job.state is not JobState.SUCCEEDED:
            raise job_error(job)
    return client.deployments.get(deployment_id)
