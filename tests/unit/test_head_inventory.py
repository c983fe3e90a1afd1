"""The inventory through the admin API: discovered machines accepted, nodes changed, and the second editor told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sis.inventory import db
from sis.inventory.model import Interface, Network, NewNode
from tests.heads import Serving, serving
from tests.unit.test_head_admin import made_store

A, B = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    state = tmp_path_factory.mktemp("head")
    made_store(state)
    with db.open(state / "state.db") as inventory:
        inventory.networks.put(Network("mgmt", "10.77.0.0/24"))
        inventory.nodes.add([NewNode(f"n{at}", (Interface("eth0", None, "free", "mgmt"),)) for at in (1, 2, 10)])
        for mac in (A, B):
            inventory.discoveries.record(mac, {"serial": f"S{mac[-1]}"})
        with serving(state, inventory) as served:
            yield served


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/v1/discoveries/accept", {"machines": {A: "n1"}}),
        ("POST", "/api/v1/discoveries/reject", {"macs": [A]}),
        ("POST", "/api/v1/nodes", {"nodeset": "n3"}),
        ("PATCH", "/api/v1/nodes", {"nodeset": "n1", "settings": ["timezone=UTC"]}),
        ("DELETE", "/api/v1/nodes", {"nodeset": "n1"}),
        ("GET", "/api/v1/changes", None),
    ],
)
def test_only_admins_change_the_inventory(head: Serving, method: str, path: str, body: Any) -> None:
    assert head.ask(method, path, body).status == 401
    refused = head.ask(method, path, body, token=head.token("operate"))
    assert refused.status == 403
    assert "this needs the role admin" in refused.json["detail"]
    assert head.ask(method, path, body, session=head.log_in("operate")).status in (401, 403)
    assert head.inventory.nodes.names() == ("n1", "n2", "n10")


def test_machines_are_proposed_names_accepted_and_turned_away(head: Serving) -> None:
    admin, view = head.token("admin"), head.token("view")
    asked = {"by": "serial", "listed": "Sa,n1\nSb,n20\n"}
    proposed = head.ask("POST", "/api/v1/discoveries/propose", asked, token=view).json["machines"]
    assert [(each["mac"], each["name"], each["defined"]) for each in proposed] == [(A, "n1", True), (B, "n20", False)]
    bad = head.ask("POST", "/api/v1/discoveries/propose", {"by": "list", "listed": "x,n1"}, token=view)
    assert bad.status == 422
    assert "list:1: not a MAC address: 'x'" in bad.json["detail"]
    body = {"machines": {A: "n1", B: "n20"}, "image": "compute@stable", "groups": ["new"], "dry_run": True}
    tried = head.ask("POST", "/api/v1/discoveries/accept", body, token=admin)
    assert tried.json["nodes"] == "n[1,20]"
    assert len(head.ask("GET", "/api/v1/discoveries", token=view).json) == 2
    assert head.ask("POST", "/api/v1/discoveries/reject", {"macs": [B]}, token=admin).json == {"macs": [B]}
    assert [each["mac"] for each in head.ask("GET", "/api/v1/discoveries?rejected=true", token=view).json] == [B]
    done = head.ask("POST", "/api/v1/discoveries/accept", {**body, "dry_run": False}, token=admin)
    assert done.status == 200
    assert head.inventory.nodes.get("n20").macs == (B,)
    assert head.ask("GET", "/api/v1/discoveries", token=view).json == []
    assert head.ask("DELETE", "/api/v1/nodes", {"nodeset": "n20"}, token=admin).json == {"nodes": "n20", "count": 1}


def test_the_second_of_two_editors_is_told_who_did_what(head: Serving) -> None:
    admin = head.token("admin")
    seen = head.ask("GET", "/api/v1/nodes/n10", token=admin)
    assert seen.headers["etag"] == f'"{seen.json["version"]}"'
    assert {side["what"] for side in seen.json["sides"]} >= {"image", "state", "eth0"}
    change = {"nodeset": "n10", "settings": ["timezone=Asia/Tokyo", "groups+=east"]}
    tag = {"If-Match": seen.headers["etag"]}
    first = head.ask("PATCH", "/api/v1/nodes", change, token=admin, headers=tag)
    assert first.status == 200
    assert first.json["versions"]["n10"] > seen.json["version"]
    late = {"nodeset": "n10", "settings": ["timezone=Europe/Paris"]}
    second = head.ask("PATCH", "/api/v1/nodes", late, token=admin, headers=tag)
    assert second.status == 412
    assert "n10 changed since you looked; nothing was changed\na-admin (token) changed n10 at" in second.json["detail"]
    assert "n10: timezone: - → Asia/Tokyo" in second.json["detail"]
    assert head.inventory.nodes.get("n10").profile["timezone"] == "Asia/Tokyo"
    named = {**late, "versions": first.json["versions"]}
    assert head.ask("PATCH", "/api/v1/nodes", named, token=admin).status == 200
    assert head.ask("PATCH", "/api/v1/nodes", late, token=admin, headers={"If-Match": "x"}).status == 422
    told = head.ask("GET", "/api/v1/changes?node=n10", token=admin).json
    assert (told[0]["who"], told[0]["via"], told[0]["lines"][0]["after"]) == ("a-admin", "token", "Europe/Paris")
    entries = head.ask("GET", "/api/v1/audit", token=admin).json
    assert {"ok", "failed"} <= {each["outcome"] for each in entries if each["action"] == "node set"}


def test_words_are_understood_or_told_off(head: Serving) -> None:
    admin = head.token("admin")
    for settings, status, said in (
        (["image=nowhere"], 404, "no such image"),
        (["timezon=UTC"], 404, "timezone"),
        (["timezone+=UTC"], 422, "timezone is no list"),
        (["resync=never"], 422, "resync"),
    ):
        answer = head.ask("PATCH", "/api/v1/nodes", {"nodeset": "n1", "settings": settings}, token=admin)
        assert (answer.status, said in answer.json["detail"]) == (status, True), answer.json
    assert head.ask("PATCH", "/api/v1/nodes", {"settings": ["timezone=UTC"]}, token=admin).status == 422
    found = head.ask("GET", "/api/v1/nodes?where=number%3E5&where=state%3Ddefined", token=admin).json
    assert [each["name"] for each in found] == ["n10"]


def test_nodes_are_added_and_deleted_and_no_other_goes(head: Serving, tmp_path: Path) -> None:
    admin = head.token("admin")
    body = {"nodeset": "x[1-2]", "macs": ["52:54:00:00:01:01", "52:54:00:00:01:02"], "groups": ["x"]}
    assert head.ask("POST", "/api/v1/nodes", {**body, "dry_run": True}, token=admin).json["nodes"] == "x[1-2]"
    assert head.ask("POST", "/api/v1/nodes", body, token=admin).status == 200
    assert head.ask("POST", "/api/v1/nodes", body, token=admin).status == 409
    assert head.ask("DELETE", "/api/v1/nodes", {"nodeset": "x[1-2]"}, token=admin).json["count"] == 2
    assert head.ask("DELETE", "/api/v1/nodes", {"nodeset": "n1"}, token=admin).json == {"nodes": "n1", "count": 1}
    assert head.inventory.nodes.names() == ("n2", "n10")
