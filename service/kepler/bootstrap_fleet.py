"""Wires the fleet: stores, authority, broker connection, rollouts, deployments. A part of `kepler.bootstrap`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kepler.adapters.fleet.deployment_rows import DeploymentRows
from kepler.adapters.fleet.device_rows import DeviceRows
from kepler.adapters.fleet.driver import RolloutDriver
from kepler.adapters.fleet.enrolment_rows import EnrolmentRows
from kepler.adapters.fleet.file_links import SignedLinks
from kepler.adapters.fleet.late_authority import LateAuthority
from kepler.adapters.fleet.rollout_rows import RolloutRows
from kepler.adapters.fleet.tables import Tables
from kepler.adapters.http.edge import EdgeEndpoints
from kepler.adapters.mqtt.fleet import FleetLink, NoFleetLink
from kepler.adapters.mqtt.link import BrokerOptions
from kepler.adapters.security.home import HomeSecurity
from kepler.adapters.security.private_files import write_private
from kepler.adapters.storage.ready_versions import RecentVersions, VerifiedVersions
from kepler.core.errors import InvalidInput, NotFound
from kepler.core.names import ModelName
from kepler.ports.clock import Clock
from kepler.ports.deploy import TargetContext
from kepler.ports.models import ModelStore
from kepler.registry import Targets, load_targets
from kepler.settings import Settings
from kepler.usecases.command_devices import CommandDevices
from kepler.usecases.deploy import DeployWork
from kepler.usecases.enrol import EnrolDevices, FleetAddress
from kepler.usecases.fleet import DriveRollouts, ManageRollouts, TakeDeviceWords


@dataclass(slots=True)
class FleetParts:
    """The wired fleet. ``link`` is None where no broker is set."""

    tables: Tables
    devices: DeviceRows
    enrolment: EnrolmentRows
    rollouts: RolloutRows
    deployments: DeploymentRows
    authority: LateAuthority
    enrol: EnrolDevices
    commands: CommandDevices
    manage: ManageRollouts
    targets: Targets
    work: DeployWork
    endpoints: EdgeEndpoints
    link: FleetLink | None
    driver: RolloutDriver
    look: Callable[[], int]

    def start(self) -> None:
        """Write what the broker reads, connect, drive rollouts."""
        if self.link is not None:
            self.enrol.write_revocations()
            self.link.start()
        self.driver.start(self.look)

    def close(self) -> None:
        """Can be repeated."""
        self.driver.stop()
        if self.link is not None:
            self.link.stop()
        self.tables.close()


def build_fleet(settings: Settings, security: HomeSecurity, models: ModelStore, clock: Clock) -> FleetParts:
    """Everything of the fleet, not yet started."""
    edge, home = settings.edge, settings.home / "edge"
    tables = Tables(settings.home, settings.database_url.get_secret_value())
    links = SignedLinks(security.secrets, clock, edge.public_url)
    devices, rollouts = DeviceRows(tables), RolloutRows(tables, links.folder_url)
    enrolment = EnrolmentRows(tables, devices)
    deployments = DeploymentRows(tables)
    authority = LateAuthority(security.secrets, edge.certificate_days)
    driver = RolloutDriver()
    versions = VerifiedVersions(models, security.signer)
    recent = RecentVersions(versions, clock)
    crl_file = edge.crl_file or home / "crl.pem"

    def write_revocations(pem: str) -> None:
        write_private(crl_file, pem.encode())
        crl_file.chmod(0o644)  # the broker runs as another user, and a list of numbers is no secret

    enrol = EnrolDevices(
        devices, enrolment, authority, security.audit, clock,
        FleetAddress(
            edge.broker or _told_address(settings),
            edge.tenant,
            _believed(settings),
        ),
        security.signer.public_raw(), write_revocations,
    )  # fmt: skip
    link: FleetLink | None = None
    if settings.mqtt.address:
        link = FleetLink(
            broker_options(settings, authority, "fleet"),
            edge.tenant,
            host_name(settings.home),
            lambda device: enrolment.keys_of(device, clock.now()),
            clock,
            security.signer.sign,
        )
    channel = link or NoFleetLink()
    commands = CommandDevices(devices, channel, enrol, security.audit, clock)
    if link is not None:
        link.attach(TakeDeviceWords(devices, rollouts, recent, channel, clock, driver.wake), commands)
    targets = load_targets(
        TargetContext(
            versions,
            devices,
            rollouts,
            links,
            clock,
            driver.wake,
            {
                **edge.model_dump(mode="json"),
                "barbara": settings.barbara,
                "splunk-edge-hub": settings.edge_hub,
            },
            security.secrets.get,
            settings.home,
        )
    )

    def open_file(flat: str, version: int, ticket: str, file: str) -> Path:
        try:
            name = str(ModelName.parse(flat))
        except InvalidInput as error:
            raise NotFound("There is no such file") from error
        device = links.device_of(name, version, ticket)
        if not enrolment.keys_of(device, clock.now()):
            raise NotFound("There is no such file")
        found = recent.ready(name, version)
        if file not in found.files:
            raise NotFound("There is no such file")
        return found.folder / file

    return FleetParts(
        tables, devices, enrolment, rollouts, deployments, authority, enrol, commands,
        ManageRollouts(rollouts, security.audit, clock, driver.wake), targets, DeployWork(targets, deployments),
        EdgeEndpoints(enrol, open_file), link, driver, DriveRollouts(devices, rollouts, channel, clock).run,
    )  # fmt: skip


def _believed(settings: Settings) -> str:
    """Authorities in PEM that devices believe beside the fleet's own: the one `kepler tls init` made, or those set."""
    file = settings.edge.broker_ca_file or settings.home / "tls" / "ca.crt"
    wanted = settings.edge.broker_ca_file is not None or (settings.tls.enabled and file.exists())
    try:
        return file.read_text("utf-8") if wanted else ""
    except OSError as error:
        raise NotFound(
            f"The authority {file} cannot be read", fix="Correct edge.broker_ca_file in the settings."
        ) from error


def _told_address(settings: Settings) -> str:
    """The service's own address of the broker, for devices that are told no other."""
    mqtt = settings.mqtt
    return f"{'mqtt' if mqtt.plain else 'mqtts'}://{mqtt.address}" if mqtt.address else ""


def host_name(home: Path) -> str:
    """This service's name among the topics: the same after a restart, another for another home."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]


def broker_options(settings: Settings, authority: LateAuthority, what: str) -> BrokerOptions:
    """How the service connects to the broker; makes its certificate where none is set."""
    mqtt, home = settings.mqtt, settings.home / "edge"
    client_id = f"kepler-host-{host_name(settings.home)}-{what}"
    if mqtt.plain:
        return BrokerOptions(mqtt.address, client_id)
    ca_file, cert_file, key_file = mqtt.ca_file, mqtt.cert_file, mqtt.key_file
    if ca_file is None:
        ca_file = home / "ca.pem"
        write_private(ca_file, authority.ca_pem.encode())
    if cert_file is None or key_file is None:
        cert_file, key_file = home / "host.pem", home / "host-key.pem"
        certificate, key = authority.made.host_pair()  # anew at each start, so that it never gets old
        write_private(key_file, key.encode())
        write_private(cert_file, certificate.encode())
    return BrokerOptions(mqtt.address, client_id, ca_file, cert_file, key_file)
