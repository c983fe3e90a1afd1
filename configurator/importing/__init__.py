"""Files of the older suites as text of ours: what was understood becomes a cluster file, the rest is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from configurator.errors import ConfiguratorError


class Imported(NamedTuple):
    """`yaml` is a cluster file (or a part of one, with comments that say so); each line of `report` begins with
    "understood:" or "not understood:" and names the line or element it is about."""

    yaml: str
    report: tuple[str, ...]


def read(name: str, data: bytes) -> Imported:
    """The file `name` with bytes `data`, its kind seen from what is in it.

    Raises ConfiguratorError for a file of no kind we know.
    """
    imported = _reader(name, _text(name, data))
    return Imported(imported.yaml, tuple(_printable(line) for line in imported.report))


def _text(name: str, data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise ConfiguratorError(f"{name} is no text")
    return text.removeprefix("\ufeff")


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def _reader(name: str, text: str) -> Imported:
    from configurator.importing import cluster_xml, hardware_list, network_config, systemconfig, xmltree

    if text.lstrip().startswith("<"):
        root = xmltree.parse(name, text)
        readers: dict[str, Callable[[xmltree.Element], Imported]] = {
            "config": network_config.read,
            "xml": cluster_xml.read,
        }
        if root.name in readers:
            return readers[root.name](root)
        raise ConfiguratorError(
            f"{name}:{root.line}: <{_printable(root.name)}> is not the root of a file we know",
            hint="network-config has <config>, cluster.xml has <xml>",
        )
    if hardware_list.is_one(text):
        return hardware_list.read(text)
    if systemconfig.is_one(text):
        return systemconfig.read(text)
    raise ConfiguratorError(
        f"{name} is none of the files we can import",
        hint="systemconfig.conf, hardware.lst, network-config XML, cluster.xml",
    )
