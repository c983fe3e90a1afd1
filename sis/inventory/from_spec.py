"""Settings and interfaces of the cluster file as the inventory keeps them: plain data under the record's own names."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from sis.inventory.model import Interface
from sis.inventory.profile import Profile, write_profile
from sis.spec.expansion import NodeInterface, NodeSpec
from sis.spec.settings import Settings

_OTHERWISE_KEPT = {"image", "disk", "interfaces", "vars", "boot", "environment"}


def profile_of(spec: NodeSpec) -> dict[str, Any]:
    """The profile data of a node; nodes that say the same share it, so nothing may be written into it."""
    return _whole(_Same(spec.settings), spec.profiles, tuple(spec.vars.items()))


@functools.lru_cache(maxsize=8192)
def _whole(same: _Same, profiles: tuple[str, ...], site: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    data = dict(_shared(same))
    if profiles:
        data["profiles"] = list(profiles)
    if site:
        data["vars"] = dict(site)
    return data


def interface_of(spec: NodeInterface, known_mac: str | None) -> Interface:
    """An interface of the cluster file; a MAC the file leaves out is the known one."""
    data: dict[str, Any] = {}
    if spec.mtu is not None:
        data["mtu"] = spec.mtu
    if spec.gateway is None:
        data["gateway"] = False
    if spec.dhcp != (spec.address is None):
        data["dhcp"] = spec.dhcp
    if spec.addresses:
        data["addresses"] = list(spec.addresses)
    if spec.routes:
        data["routes"] = [{"to": route.to, "via": str(route.via)} for route in spec.routes]
    for name, made in (("bond", spec.bond), ("vlan", spec.vlan), ("bridge", spec.bridge)):
        if made is not None:
            data[name] = made.model_dump(mode="json")
    if spec.infiniband is not None:
        data["infiniband"] = spec.infiniband
    return Interface(
        name=spec.name,
        mac=spec.mac or known_mac,
        address=spec.address.partition("/")[0] if spec.address else None,
        network=spec.network,
        data=data,
    )


class _Same:
    """Settings as a cache key: known by identity, and kept alive while they are one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __hash__(self) -> int:
        return id(self.settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.settings is self.settings


@functools.lru_cache(maxsize=256)
def _shared(same: _Same) -> dict[str, Any]:
    written = same.settings
    said = written.model_dump(mode="json", exclude=_OTHERWISE_KEPT)
    environment = written.environment
    said["environment"] = {
        "defaults": [{"name": name, "version": version} for name, version in environment.defaults.items()],
        "load": list(environment.load),
        "path": environment.path,
    }
    if "boot" in written.model_fields_set:
        said |= {"boot_kernel": written.boot.kernel, "boot_timeout_s": written.boot.timeout_s}
    return write_profile(msgspec.convert(said, Profile))
