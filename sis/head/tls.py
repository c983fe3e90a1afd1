"""The console and the admin API by TLS: the head's own certificate, known by its fingerprint, or a given one.

Nodes do not use it: what they say is signed and sealed, and their first boot has no certificate to go by. With TLS on,
a line in clear serves them and nobody else.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sis.errors import NotFound, SisError
from sis.head.answers import fault
from sis.head.who import PEER
from sis.system.files import atomic_write

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as Known
    from cryptography.x509 import GeneralName

PORT = 8743
LIFE = timedelta(days=825)
"""The longest browsers take from a certificate somebody trusted by hand."""
RENEW_WITHIN = timedelta(days=60)
_FOR_NODES = re.compile(
    r"/boot/.*|/store/.*|/api/v1/(?:health|hello|openapi\.json)|/api/v1/nodes/[^/]+/(?:desired|events|report|orders)"
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM. `fingerprint` is the certificate's SHA-256, as browsers show it."""

    cert: Path
    key: Path
    fingerprint: str
    names: tuple[str, ...]
    ends: datetime

    @property
    def is_to_be_renewed(self) -> bool:
        return self.ends - datetime.now(UTC) < RENEW_WITHIN


@dataclass(frozen=True, slots=True)
class Settings:
    """Where TLS is served, and as whom."""

    certificate: Certificate
    address: str
    port: int


def own(state: Path) -> Certificate | None:
    """The head's own certificate; None where `make` made none."""
    cert, key = _places(state)
    return read(cert, key) if cert.exists() else None


def make(state: Path, names: Iterable[str]) -> Certificate:
    """The head's own certificate for these host names and addresses: kept while it has them all and holds a while."""
    wanted = tuple(dict.fromkeys(names))
    known = own(state)
    if known is not None and set(wanted) <= set(known.names) and not known.is_to_be_renewed:
        return known
    cert, key = _places(state)
    cert.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made, secret = _self_signed(wanted)
    atomic_write(key, secret, mode=0o600)
    atomic_write(cert, made, mode=0o644)
    return read(cert, key)


def read(cert: Path, key: Path) -> Certificate:
    """A certificate and its key, tried. Raises NotFound, SisError when they are not a pair."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    for path in (cert, key):
        if not path.is_file():
            raise NotFound(f"no such file: {path}", hint="make a certificate of the head's own: sis head init --tls")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, password="")
        known = x509.load_pem_x509_certificates(cert.read_bytes())[0]
    except (ssl.SSLError, OSError, ValueError) as error:
        raise SisError(
            f"{cert} and {key} are not a certificate and its key: {error}",
            hint="both in PEM, the key without a password",
        ) from error
    fingerprint = known.fingerprint(SHA256()).hex(":").upper()
    return Certificate(cert, key, fingerprint, _names_of(known), known.not_valid_after_utc)


class ForNodesOnly:
    """Middleware: a line in clear is for booting machines and nodes; browsers are led to TLS, tokens turned away."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_safe(scope) or _FOR_NODES.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        server = scope.get("server") or ("127.0.0.1", 0)
        host = f"[{server[0]}]" if ":" in str(server[0]) else str(server[0])
        where = f"https://{host}:{self._port}"
        if scope["method"] in ("GET", "HEAD") and not scope["query_string"] and not _has_key(scope):
            await RedirectResponse(where + scope["path"], 307)(scope, receive, send)
            return
        await fault(403, f"not over a line in clear: {where}")(scope, receive, send)


def _is_safe(scope: Scope) -> bool:
    return scope["scheme"] == "https" or PEER in scope.get("state", {})


def _has_key(scope: Scope) -> bool:
    return any(name in (b"authorization", b"cookie") for name, _ in scope["headers"])


def _places(state: Path) -> tuple[Path, Path]:
    return state / "keys" / "tls.crt", state / "keys" / "tls.key"


def _self_signed(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Certificate and key in PEM. It signs nothing but itself: whoever trusts it trusts this head alone."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sis head")])
    others = x509.SubjectAlternativeName([_general(each) for each in names])
    began = datetime.now(UTC) - timedelta(days=1)
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=False, crl_sign=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), began, began + LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    made = builder.add_extension(others, critical=False).sign(key, SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), secret


def _general(name: str) -> GeneralName:
    from cryptography import x509

    address = _address(name)
    return x509.IPAddress(address) if address is not None else x509.DNSName(name)


def _names_of(certificate: Known) -> tuple[str, ...]:
    from cryptography import x509

    try:
        said = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*said.get_values_for_type(x509.DNSName), *map(str, said.get_values_for_type(x509.IPAddress)))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
