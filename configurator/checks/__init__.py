"""Does each value mean what its field says? Every fault of a record at once, each with its place.

A value that passes here is safe in every file we render: it holds no control character, no line end, and nothing
outside the alphabet of its kind. Secrets are never shown in a fault.
"""

from __future__ import annotations

from collections.abc import Iterator

from configurator.checks.accounts import accounts_faults
from configurator.checks.keys import authorized_key_faults, host_key_faults
from configurator.checks.network import interface_faults, interfaces_faults
from configurator.checks.peers import kerrighed_faults, peers_faults
from configurator.checks.storage import storage_faults
from configurator.checks.system import (
    boot_faults,
    driver_faults,
    environment_faults,
    identity_faults,
    modules_faults,
    time_and_language_faults,
)
from configurator.checks.values import (
    Fault,
    address_faults,
    domain_faults,
    is_host_name,
    is_interface_name,
    repeated_faults,
    shown,
)
from configurator.errors import RecordInvalid
from configurator.facts import Facts
from configurator.record import Record

__all__ = ["Fault", "check", "check_drivers", "is_host_name", "is_interface_name", "shown"]


def check(record: Record) -> None:
    """Raise RecordInvalid with every fault of the record, or return."""
    found = [*_faults(record)]
    if found:
        name = record.name if is_host_name(record.name) else "?"
        plural = "s" if len(found) > 1 else ""
        raise RecordInvalid(
            f"the record of node {name} has {len(found)} fault{plural}", details=[str(f) for f in found]
        )


def check_drivers(facts: Facts) -> None:
    """Raise RecordInvalid for drivers that cannot be kernel modules: nodes tell their facts themselves."""
    drivers = [
        *((f"facts.interfaces[{at}].driver", interface.driver) for at, interface in enumerate(facts.interfaces)),
        *((f"facts.disks[{at}].driver", disk.driver) for at, disk in enumerate(facts.disks)),
    ]
    wrong = [*driver_faults(drivers)]
    if wrong:
        raise RecordInvalid("the facts hold values that cannot be true", details=[str(fault) for fault in wrong])


def _faults(record: Record) -> Iterator[Fault]:
    yield from identity_faults(record)
    yield from time_and_language_faults(record)
    for at, interface in enumerate(record.interfaces):
        yield from interface_faults(f"record.interfaces[{at}]", interface)
    yield from interfaces_faults(record.interfaces)
    for at, server in enumerate(record.nameservers):
        yield from address_faults(f"record.nameservers[{at}]", server)
    for at, domain in enumerate(record.search):
        yield from domain_faults(f"record.search[{at}]", domain)
    yield from storage_faults(record)
    yield from modules_faults(record)
    yield from peers_faults(record)
    if record.kerrighed is not None:
        yield from kerrighed_faults(record, record.kerrighed)
    for at, key in enumerate(record.host_keys):
        yield from host_key_faults(f"record.host_keys[{at}]", key)
    yield from repeated_faults("record.host_keys", "type", [key.type for key in record.host_keys])
    for at, line in enumerate(record.root_authorized_keys):
        yield from authorized_key_faults(f"record.root_authorized_keys[{at}]", line)
    if record.boot is not None:
        yield from boot_faults(record.boot)
    yield from accounts_faults(record.accounts)
    yield from environment_faults(record.environment)
