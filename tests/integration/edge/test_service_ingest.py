"""`kepler serve` with a broker and a collector: a registered device's records reach Splunk, a revoked one's do not."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

from fakes.splunkd import Splunkd
from kepler.adapters.fleet.device_rows import DeviceRows
from kepler.adapters.fleet.enrolment_rows import EnrolmentRows
from kepler.adapters.fleet.tables import Tables
from kepler.adapters.mqtt import frames
from kepler.adapters.secrets.signer import Ed25519Signer
from kepler.adapters.security.home import HomeSecurity
from kepler.bootstrap import SystemClock
from kepler.ports.fleet import DeviceCertificate
from support import edge_sender
from support.broker import Broker
from support.edge_sender import Device, batch, device_key
from support.hec_events import stored, wait_until
from support.running_service import running


def test_records_of_registered_devices_alone(tmp_path: Path, monkeypatch) -> None:
    home = tmp_path / "home"
    security = HomeSecurity(home, "file", SystemClock())
    signer: Ed25519Signer = security.signer
    tables = Tables(home)
    enrolment = EnrolmentRows(tables, DeviceRows(tables))
    for serial, name in (("a1", "press-1"), ("a2", "press-2")):
        public = device_key(name).public_key().public_bytes_raw()
        now = time.time()
        enrolment.register(
            DeviceCertificate(serial, name, public, "", now, now + 86_400, ours=False), {}, now
        )
    enrolment.revoke("press-2", time.time())

    class ServiceKey:
        """What devices trust: the key that this home made."""

        def public_key(self) -> ServiceKey:
            return self

        def public_bytes_raw(self) -> bytes:
            return signer.public_raw()

    monkeypatch.setattr(edge_sender, "HOST_KEY", ServiceKey())
    with Splunkd(listen=False) as splunkd, Broker(tmp_path) as broker:
        splunkd.events.create("kepler")
        hec = splunkd.hec.start()
        security.secrets.set("splunk-hec-token", hec.add_token())
        env = {
            "KEPLER_MQTT__ADDRESS": broker.address,
            "KEPLER_EDGE__TENANT": "plant7",
            "KEPLER_HEC__URL": hec.url,
        }
        with running(home, env=env) as service:
            with Device("press-1", broker.address) as good, Device("press-2", broker.address) as gone:
                states: list[bytes] = []
                good.listen("kepler/v1/plant7/host/state", states.append)
                wait_until(lambda: states)
                gone.send(batch("press-2", range(1, 11)))
                good.send(batch("press-1", range(1, 101)))
                wait_until(lambda: good.is_safe("p1", 100))
                page = urllib.request.urlopen(f"http://{service.http}/metrics").read().decode()
            wait_until(lambda: len(stored(splunkd)) == 100)
        found = stored(splunkd, after_macro=False)
        with Device("press-1", broker.address) as good:
            good.listen("kepler/v1/plant7/host/state", states.append)
            wait_until(lambda: len(states) >= 2)
    assert {row["device"] for row in found} == {"press-1"}
    assert "kepler_ingest_records_total 100.0" in page
    assert 'kepler_ingest_refused_total{check="unknown-device"} 1.0' in page
    body = [
        frames.parse(frames.decode("kepler/v1/plant7/host/state", s, [signer.public_raw()])) for s in states
    ]
    assert (body[0]["online"], body[-1]["online"]) == (True, False)
    security.close()
    tables.close()
