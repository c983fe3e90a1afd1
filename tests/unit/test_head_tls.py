"""Console and admin API by TLS: who trusts the head's certificate gets in, a line in clear is for nodes alone."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from sis.cli import main
from sis.errors import NotFound, SisError
from sis.head import tls
from sis.image.store.local import LocalStore
from sis.image.store.sign import Signer
from sis.inventory import db
from sis.inventory.model import NewNode
from tests import node_calls
from tests.ports import free_port
from tests.unit.test_head_run import running


def said(state: Path, *words: str) -> str:
    done = CliRunner().invoke(main, ["--state", str(state), *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def ask(
    port: int, path: str, headers: Mapping[str, str] | None = None, *, trust: Path | None = None, method: str = "GET"
) -> tuple[int, dict[str, str]]:
    """One request: in clear, or by TLS with only this certificate trusted."""
    line = http.client.HTTPConnection("localhost", port, timeout=90)
    if trust is not None:
        line = http.client.HTTPSConnection(
            "localhost", port, timeout=90, context=ssl.create_default_context(cafile=trust)
        )
    line.request(method, path, headers=dict(headers or {}))
    response = line.getresponse()
    response.read()
    line.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}


def test_admins_come_by_tls_and_nodes_as_before(tmp_path: Path) -> None:
    out = said(tmp_path, "head", "init", "--network", "mgmt=127.0.0.0/24", "--address", "127.0.0.1", "--tls")
    own = tls.own(tmp_path)
    assert own is not None
    assert f"certificate SHA-256: {own.fingerprint}\n" in out
    token = said(tmp_path, "token", "add", "grafana").strip()
    node_key, head_key = Signer.make(), LocalStore(tmp_path / "store").signer().public
    with db.open(tmp_path / "state.db") as inventory:
        inventory.nodes.add([NewNode("n1")])
        node_calls.put_key(inventory, "n1", node_key)
    port, secure = free_port(), free_port()
    bearer = {"Authorization": f"Bearer {token}"}
    with running(tmp_path, "--listen", f"127.0.0.1:{port}", "--tls-listen", f"127.0.0.1:{secure}"):
        assert ask(secure, "/api/v1/nodes", bearer, trust=own.cert)[0] == 200
        url = said(tmp_path, "web", "login").strip()
        assert url.startswith(f"https://127.0.0.1:{secure}/login?code=")
        login = url.removeprefix(f"https://127.0.0.1:{secure}")
        assert ask(port, login)[0] == 403, "the code is not taken over a line in clear"
        status, headers = ask(secure, login, trust=own.cert)
        assert status in (200, 303)

        status, headers = ask(port, "/images")
        assert (status, headers["location"]) == (307, f"https://127.0.0.1:{secure}/images")
        for path, sent in (("/api/v1/nodes", bearer), ("/metrics", bearer), ("/", {"Cookie": "sis_session=x"})):
            assert ask(port, path, sent)[0] == 403
        assert ask(port, "/api/v1/nodes", bearer, method="PATCH")[0] == 403
        assert ask(port, "/api/v1/health")[0] == 200
        assert ask(port, "/boot/ipxe?mac=52-54-00-00-00-01")[0] == 200
        path = node_calls.own("n1", "orders?wait=0").replace("%3F", "?")
        assert node_calls.call(port, head_key, "GET", path, node="n1", key=node_key).status == 204
        line = http.client.HTTPConnection("localhost")
        line.sock = socket.socket(socket.AF_UNIX)
        line.sock.connect(str(tmp_path / "run/api.sock"))
        line.request("GET", "/api/v1/nodes")
        assert line.getresponse().status == 200, "root's socket on this machine"
        line.close()
        other = tls.make(tmp_path / "other", ["localhost"])
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(secure, "/", trust=other.cert)


def test_a_certificate_is_kept_while_it_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tls.make(tmp_path, ["localhost", "127.0.0.1", "fd77::1"])
    assert first.names == ("localhost", "127.0.0.1", "fd77::1")
    assert (first.key.stat().st_mode & 0o777, first.cert.stat().st_mode & 0o777) == (0o600, 0o644)
    assert tls.make(tmp_path, ["127.0.0.1"]) == first
    wider = tls.make(tmp_path, ["localhost", "head.example"])
    assert wider.fingerprint != first.fingerprint
    assert not wider.is_to_be_renewed
    monkeypatch.setattr(tls, "LIFE", timedelta(days=30))
    short = tls.make(tmp_path, ["other.example"])
    assert short.is_to_be_renewed
    assert tls.make(tmp_path, ["other.example"]).fingerprint != short.fingerprint


def test_what_is_no_pair_is_told(tmp_path: Path) -> None:
    one, other = tls.make(tmp_path / "a", ["a"]), tls.make(tmp_path / "b", ["b"])
    with pytest.raises(SisError, match="are not a certificate and its key"):
        tls.read(one.cert, other.key)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(SisError, match="are not a certificate and its key"):
        tls.read(tmp_path / "text", one.key)
    with pytest.raises(NotFound, match="no such file"):
        tls.read(tmp_path / "none", one.key)
    done = CliRunner().invoke(main, ["--state", str(tmp_path), "head", "run", "--tls-cert", str(one.cert)])
    assert (done.exit_code, done.stderr) == (2, "sis: --tls-cert and --tls-key go together\n")
