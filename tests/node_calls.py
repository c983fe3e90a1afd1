"""A node's calls to a served head as they travel: signed by its key, answers verified and opened."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
import sqlalchemy as sa

from sis.image.store.sign import Signer
from sis.inventory import schema
from sis.inventory.clock import now
from sis.inventory.db import Inventory
from sis.sealed import ERA_HEADER, PROOF_HEADER, Question


@dataclass(frozen=True)
class Raw:
    """An answer, its body opened when it was sealed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def call(
    port: int,
    head_key: str,
    method: str,
    path: str,
    body: object = None,
    *,
    node: str,
    key: Signer,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 90.0,
) -> Raw:
    """One call of `node`, asked anew for the head's era when it must be."""
    payload = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
    era = "0" * 32
    for _ in range(2):
        question = Question(key, node, era, method, path, payload)
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        line.request(method, path, payload, {**(headers or {}), "Authorization": question.authorization})
        response = line.getresponse()
        raw = response.read()
        line.close()
        if response.status != 401:
            break
        era = response.headers[ERA_HEADER]
    if response.status < 300:
        raw = question.open(head_key, response.status, response.headers.get(PROOF_HEADER), raw)
    return Raw(response.status, {name.lower(): value for name, value in response.getheaders()}, raw)


def own(node: str, what: str) -> str:
    """The path of a node's own call."""
    return f"/api/v1/nodes/{quote(node, safe='')}/{what}"


def put_key(inventory: Inventory, node: str, key: Signer) -> None:
    """Have a node known by a key, as after its install."""
    row = {"node_id": inventory.nodes.get(node).id, "public_key": key.public, "issued": now(), "used": True}
    with inventory.database.write() as connection:
        connection.execute(sa.insert(schema.node_keys).values(**row))
