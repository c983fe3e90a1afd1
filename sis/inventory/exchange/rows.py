"""CSV and JSON: a row for each interface of each node, or an object for each node; both read back as written."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from sis.inventory.exchange.told import Reading, Told, Wire, merged
from sis.inventory.model import Node
from sis.inventory.profile import NAMES

COLUMNS = ("name", "interface", "mac", "address", "network", "image", "layout", "groups")
_SCALARS = ("timezone", "kernel_cmdline", "serial_console", "resync", "domain")
_ALIASES = {"node": "name", "hostname": "name", "host": "name", "ip": "address", "ip_address": "address"}
_ALIASES |= {"macaddress": "mac", "mac_address": "mac", "group": "groups", "disk": "layout"}


def write_csv(nodes: Sequence[Node]) -> str:
    """A row for each interface (one without for a node that has none); settings follow in columns of their own."""
    names = sorted({f"vars.{name}" for node in nodes for name in node.profile.get("vars") or {}})
    settings = [name for name in _SCALARS if any(name in node.profile for node in nodes)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *settings, *names])
    for node in nodes:
        site = node.profile.get("vars") or {}
        more = [node.profile.get(name, "") for name in settings]
        more += [site.get(name.removeprefix("vars."), "") for name in names]
        image = node.assignment.reference if node.assignment else ""
        layout = (node.assignment.layout if node.assignment else None) or ""
        for at, wire in enumerate(node.interfaces or (None,)):
            told = (wire.name, wire.mac, wire.address, wire.network) if wire else ("", "", "", "")
            own = (image, layout, " ".join(node.groups)) if at == 0 else ("", "", "")
            writer.writerow(
                [node.name, *(value or "" for value in told), *own, *(more if at == 0 else ["" for _ in more])]
            )
    return out.getvalue()


def read_csv(reading: Reading) -> list[Told]:
    """Rows under a heading; columns we do not know are a fault. Commas, semicolons or tabs separate."""
    head = next((line for line in reading.text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(reading.text.lstrip("\ufeff")), delimiter=separator)
    columns: list[str] = []
    told = []
    for row in rows:
        line = rows.line_num
        if not any(cell.strip() for cell in row) or row[0].lstrip().startswith("#"):
            continue
        if not columns:
            columns = [_column(cell, line, reading) for cell in row]
            if "name" not in columns:
                reading.fault(line, f"no column 'name'; columns are: {', '.join(COLUMNS)}, settings, vars.NAME")
                return []
            continue
        if len(row) > len(columns):
            reading.fault(line, f"{len(row)} values, but {len(columns)} columns")
            continue
        cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False)}
        made = _node(cells, line, reading)
        if made is not None:
            told.append(made)
    return merged(told, reading)


def write_json(nodes: Sequence[Node]) -> str:
    """A list of objects; profiles as the inventory keeps them."""
    rows = [
        {
            "name": node.name,
            "image": node.assignment.reference if node.assignment else None,
            "layout": node.assignment.layout if node.assignment else None,
            "groups": list(node.groups),
            "interfaces": [
                {"name": each.name, "mac": each.mac, "address": each.address, "network": each.network}
                for each in node.interfaces
            ],
            "settings": {name: value for name, value in node.profile.items() if name in _SCALARS},
            "vars": dict(node.profile.get("vars") or {}),
        }
        for node in nodes
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def read_json(reading: Reading) -> list[Told]:
    """What `write_json` writes; every key but the name may be missing."""
    try:
        rows = json.loads(reading.text)
    except json.JSONDecodeError as error:
        reading.fault(error.lineno, f"is not JSON: {error.msg}")
        return []
    if not isinstance(rows, list):
        reading.fault(1, "is no list of nodes")
        return []
    lines = _lines_of_names(reading.text)
    told = []
    for at, row in enumerate(rows):
        line = lines[at] if at < len(lines) else 1
        if not isinstance(row, dict) or not isinstance(row.get("name"), str):
            reading.fault(line, f"entry {at + 1} is no object with a name")
            continue
        made = _object(row, line, reading)
        if made is not None:
            told.append(made)
    return merged(told, reading)


def _column(cell: str, line: int, reading: Reading) -> str:
    name = cell.strip().lower().replace(" ", "_").lstrip("\ufeff")
    name = _ALIASES.get(name, name)
    if name not in COLUMNS and name not in NAMES and not name.startswith("vars."):
        reading.fault(line, f"unknown column '{cell.strip()}'")
    return cell.strip() if name.startswith("vars.") else name


def _node(cells: dict[str, str], line: int, reading: Reading) -> Told | None:
    name = reading.node(line, cells["name"])
    wires = []
    if any(cells.get(key) for key in ("mac", "address", "network", "interface")):
        mac, address = reading.mac(line, cells.get("mac", "")), reading.address(line, cells.get("address", ""))
        wires.append(Wire(cells.get("interface") or "eth0", mac, address, cells.get("network") or None))
    groups = [
        reading.group(line, group) for group in cells.get("groups", "").replace(",", " ").replace(";", " ").split()
    ]
    settings = [f"{key}={value}" for key, value in cells.items() if key not in COLUMNS and value]
    if name is None:
        return None
    return Told(
        name,
        line,
        cells.get("image") or None,
        cells.get("layout") or None,
        tuple(group for group in groups if group),
        tuple(wires),
        tuple(settings),
    )


def _object(row: dict[str, Any], line: int, reading: Reading) -> Told | None:
    strange = set(row) - {"name", "image", "layout", "groups", "interfaces", "settings", "vars"}
    if strange:
        reading.fault(line, f"{row['name']}: unknown keys: {', '.join(sorted(map(str, strange)))}")
    name = reading.node(line, row["name"])
    wires = []
    for each in _list(row, "interfaces", line, reading):
        if not isinstance(each, dict):
            reading.fault(line, f"{row['name']}: an interface is an object with a name")
            continue
        mac, address = (
            reading.mac(line, str(each.get("mac") or "")),
            reading.address(line, str(each.get("address") or "")),
        )
        wires.append(Wire(str(each.get("name") or "eth0"), mac, address, each.get("network") or None))
    groups = [reading.group(line, str(group)) for group in _list(row, "groups", line, reading)]
    said = row.get("settings") or {}
    site = row.get("vars") or {}
    if not isinstance(said, dict) or not isinstance(site, dict):
        reading.fault(line, f"{row['name']}: settings and vars are objects")
        return None
    settings = [f"{key}={value}" for key, value in said.items()] + [
        f"vars.{key}={value}" for key, value in site.items()
    ]
    if name is None:
        return None
    image, layout = row.get("image"), row.get("layout")
    return Told(
        name,
        line,
        str(image) if image else None,
        str(layout) if layout else None,
        tuple(group for group in groups if group),
        tuple(wires),
        tuple(settings),
    )


def _list(row: dict[str, Any], key: str, line: int, reading: Reading) -> list[Any]:
    value = row.get(key) or []
    if not isinstance(value, list):
        reading.fault(line, f"{row['name']}: {key} is no list")
        return []
    return value


def _lines_of_names(text: str) -> list[int]:
    """The lines in which objects begin at the top level of a list, in order."""
    lines, depth, quoted, line = [], 0, False, 1
    escaped = False
    for char in text:
        if char == "\n":
            line += 1
        if quoted:
            quoted = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            quoted = True
        elif char in "[{":
            if depth == 1 and char == "{":
                lines.append(line)
            depth += 1
        elif char in "]}":
            depth -= 1
    return lines
