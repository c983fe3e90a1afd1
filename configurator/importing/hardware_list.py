"""hardware.lst: `VENDOR DEVICE TYPE MODULE`, one PCI device a line, as SystemConfigurator's own table had them."""

from __future__ import annotations

import re

from configurator.importing import Imported
from configurator.importing.yamltext import yaml_text

_LINE = re.compile(r"(?i)(?:0x)?([0-9a-f]{4})\s+(?:0x)?([0-9a-f]{4})\s+([a-z_]+)\s+([A-Za-z0-9_-]+)")
_ALIASES = {"ethernet": "eth", "tokenring": "tr", "scsi": "scsi_hostadapter"}


def is_one(text: str) -> bool:
    """Whether the first line that says something is of this form."""
    said = [line.partition("#")[0].strip() for line in text.splitlines()]
    return next((bool(_LINE.fullmatch(line)) for line in said if line), False)


def read(text: str) -> Imported:
    modules: list[dict[str, str]] = []
    report: list[str] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            report.append(f"not understood: line {number}: {line!a}")
            continue
        vendor, device, kind, module = found.groups()
        modalias = f"pci:v0000{vendor.upper()}d0000{device.upper()}sv*sd*bc*sc*i*"
        modules.append({"name": module, "alias": modalias})
        if kind.lower() in _ALIASES and {"name": module, "alias": _ALIASES[kind.lower()]} not in modules:
            modules.append({"name": module, "alias": _ALIASES[kind.lower()]})
        report.append(f"understood: line {number}: PCI device {vendor}:{device} is driven by {module}")
    comments = ["the devices of hardware.lst as aliases of their modules"]
    return Imported(yaml_text({"cluster": "imported", "defaults": {"modules": modules}}, comments), tuple(report))
