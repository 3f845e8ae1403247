"""How a device joins and leaves, and how little a stranger learns."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.clock import FakeClock
from fakes.secret_store import InMemorySecretStore
from fakes.service_parts import MemoryAudit
from kepler.adapters.fleet.authority import HOST_NAME, FleetAuthority
from kepler.adapters.fleet.device_rows import DeviceRows
from kepler.adapters.fleet.enrolment_rows import EnrolmentRows
from kepler.adapters.fleet.tables import Tables
from kepler.adapters.security.tls import common_name, make_authority, sign_leaf
from kepler.core.errors import Conflict, Denied, InvalidInput
from kepler.core.training import SearchContext
from kepler.fleet.devices import DeviceState
from kepler.ports.security import Principal
from kepler.usecases.enrol import EnrolDevices, FleetAddress
from kepler.usecases.identity import caller_of
from kepler_edge.keys import DeviceKey

ANA = caller_of(Principal("ana", frozenset({"deploy"}), "t"), user="", app="search", search=SearchContext())
KEY = DeviceKey(b"1" * 32)
OTHER = DeviceKey(b"2" * 32)


class Site:
    """The use case over a real store."""

    def __init__(self, home: Path) -> None:
        import time

        self.clock = FakeClock(time.time())  # certificates are judged by the system's clock too
        self.audit = MemoryAudit()
        self.tables = Tables(home)
        self.devices = DeviceRows(self.tables)
        self.enrolment = EnrolmentRows(self.tables, self.devices)
        self.authority = FleetAuthority(InMemorySecretStore())
        self.lists: list[str] = []
        self.enrol = EnrolDevices(
            self.devices, self.enrolment, self.authority, self.audit, self.clock,
            FleetAddress("broker:8883", "plant"), b"k" * 32, self.lists.append,
        )  # fmt: skip

    def token(self, device: str = "", ttl_s: float = 0.0, **labels: str) -> str:
        return self.enrol.create_token(ANA, device, labels, ttl_s)[1]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.tables.close()


def test_a_device_joins_with_the_request_that_its_agent_writes(site: Site) -> None:
    welcome = site.enrol.enrol(site.token(site="plant7"), "gw-1", KEY.csr_pem("gw-1"))
    assert (welcome.broker, welcome.tenant) == ("broker:8883", "plant")
    assert welcome.trusted_keys == (base64.b64encode(b"k" * 32).decode(),)
    certificate = x509.load_pem_x509_certificate(welcome.certificate_pem.encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(welcome.ca_pem.encode()))
    assert certificate.subject == common_name("gw-1")
    assert site.enrolment.keys_of("gw-1", site.clock.now()) == [KEY.public]
    assert site.devices.device("gw-1").labels == {"site": "plant7"}
    assert ("device", "edge.enrol", "gw-1", "done") in site.audit.records


def test_a_lost_answer_is_given_again_to_the_same_key_alone(site: Site) -> None:
    token = site.token("gw-1")
    first = site.enrol.enrol(token, "gw-1", KEY.csr_pem("gw-1"))
    assert site.enrol.enrol(token, "gw-1", KEY.csr_pem("gw-1")) == first
    with pytest.raises(Denied):
        site.enrol.enrol(token, "gw-1", OTHER.csr_pem("gw-1"))
    site.enrol.revoke(ANA, "gw-1")
    with pytest.raises(Denied):
        site.enrol.enrol(token, "gw-1", KEY.csr_pem("gw-1"))


def refused(site: Site, token: str, device: str, csr: str) -> None:
    with pytest.raises(Denied) as caught:
        site.enrol.enrol(token, device, csr)
    assert caught.value.sentence == "The device is not admitted. Ask for a new token and try again."
    assert site.audit.records[-1][3] == "refused"


def test_every_refusal_reads_the_same(site: Site) -> None:
    good = site.token("gw-1")
    elliptic = ec.generate_private_key(ec.SECP256R1())
    other_kind = x509.CertificateSigningRequestBuilder().subject_name(common_name("gw-1"))
    wrong_key = other_kind.sign(elliptic, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    forged = KEY.csr_pem("gw-1").replace("A", "B", 1)
    for token, device, csr in [
        ("", "gw-1", KEY.csr_pem("gw-1")),
        (good[:-1] + "!", "gw-1", KEY.csr_pem("gw-1")),
        ("ke_unknown_x", "gw-1", KEY.csr_pem("gw-1")),
        ("ke_" + "x" * 5000, "gw-1", KEY.csr_pem("gw-1")),
        (good, "gw-2", KEY.csr_pem("gw-2")),
        (good, "gw-1", KEY.csr_pem("gw-2")),
        (good, "host", KEY.csr_pem("host")),
        (good, "../x", KEY.csr_pem("../x")),
        (good, "gw-1", ""),
        (good, "gw-1", "\ud800"),
        (good, "gw-1", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
        (good, "gw-1", forged),
        (good, "gw-1", wrong_key),
        (good, "gw-1", "x" * 100_000),
    ]:
        refused(site, token, device, csr)
    expired = site.token("gw-1", 60.0)
    site.clock.advance(61)
    refused(site, expired, "gw-1", KEY.csr_pem("gw-1"))
    site.enrol.enrol(good, "gw-1", KEY.csr_pem("gw-1"))
    refused(site, site.token(), "gw-1", OTHER.csr_pem("gw-1"))  # a token for any device takes nobody's place
    refused(site, site.token("gw-9"), "gw-9", KEY.csr_pem("gw-9"))  # one key, two devices


def test_a_new_certificate_does_not_end_the_old_one_before_it_is_retired(site: Site) -> None:
    site.enrol.enrol(site.token("gw-1"), "gw-1", KEY.csr_pem("gw-1"))
    site.clock.advance(1)
    site.enrol.enrol(site.enrol.rotation_token("gw-1", 600.0), "gw-1", OTHER.csr_pem("gw-1"))
    assert set(site.enrolment.keys_of("gw-1", site.clock.now())) == {KEY.public, OTHER.public}
    newest = site.enrol.certificates("gw-1")[0]
    site.enrol.retire_old_certificates("gw-1", newest.serial)
    assert site.enrolment.keys_of("gw-1", site.clock.now()) == [OTHER.public]


def test_a_revoked_device_is_on_the_brokers_list(site: Site) -> None:
    site.enrol.enrol(site.token("gw-1"), "gw-1", KEY.csr_pem("gw-1"))
    site.enrol.write_revocations()
    serial = int(site.enrol.certificates("gw-1")[0].serial, 16)
    assert site.enrol.revoke(ANA, "gw-1").state is DeviceState.REVOKED
    empty, full = (x509.load_pem_x509_crl(text.encode()) for text in site.lists)
    assert empty.get_revoked_certificate_by_serial_number(serial) is None
    assert full.get_revoked_certificate_by_serial_number(serial) is not None
    authority = x509.load_pem_x509_certificate(site.authority.ca_pem.encode())
    assert full.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    assert site.enrolment.keys_of("gw-1", site.clock.now()) == []


def test_the_sites_own_authority(site: Site) -> None:
    authority, key = make_authority("Plant 7")
    csr = x509.load_pem_x509_csr(KEY.csr_pem("gw-7").encode())
    made = sign_leaf("gw-7", csr.public_key(), [], x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH, authority, key)  # type: ignore[arg-type]
    pem = made.public_bytes(Encoding.PEM).decode()
    assert site.enrol.register(ANA, pem, {"site": "plant7"}).id == "gw-7"
    assert site.enrolment.keys_of("gw-7", site.clock.now()) == [KEY.public]
    site.enrol.revoke(ANA, "gw-7")
    assert list(x509.load_pem_x509_crl(site.lists[-1].encode())) == [], "its authority revokes it"
    for bad in ("", "x", site.authority.server_pair(["localhost"])[0]):
        with pytest.raises(InvalidInput):
            site.enrol.register(ANA, bad, {})


def test_the_authority_is_made_once(tmp_path: Path) -> None:
    secrets = InMemorySecretStore()
    assert FleetAuthority(secrets).ca_pem == FleetAuthority(secrets).ca_pem
    for pem, _ in (
        FleetAuthority(secrets).host_pair(),
        FleetAuthority(secrets).server_pair(["b", "127.0.0.1"]),
    ):
        found = x509.load_pem_x509_certificate(pem.encode())
        found.verify_directly_issued_by(
            x509.load_pem_x509_certificate(FleetAuthority(secrets).ca_pem.encode())
        )
    host = x509.load_pem_x509_certificate(FleetAuthority(secrets).host_pair()[0].encode())
    assert host.subject == common_name(HOST_NAME)
    with pytest.raises(InvalidInput):
        FleetAuthority(secrets).server_pair([])
    secrets.set("kepler.fleet-authority", "{}")
    with pytest.raises(Conflict, match="is no authority"):
        FleetAuthority(secrets)


@pytest.mark.parametrize("ttl_s", [-1.0, 31 * 86_400.0])
def test_lifetimes_of_tokens(site: Site, ttl_s: float) -> None:
    with pytest.raises(InvalidInput):
        site.token("gw", ttl_s)
    with pytest.raises(InvalidInput):
        site.token("Not A Name")
