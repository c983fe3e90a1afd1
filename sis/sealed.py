"""How node and head prove themselves to each other without TLS: requests signed, answers signed and sealed.

The head knows the public half of each node's own key, a node has pinned the head's. A request is signed by the node
over all that matters of it: the head's era (a random word of the last minutes, so no clock is needed), a fresh X25519
share, node, method, path and the body's hash. The answer is encrypted to that share and signed by the head together
with the request it answers: it can be neither read, changed, replayed nor given to another question. See
docs/security.md.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from sis.errors import Refused, SisError
from sis.image.store.sign import Signer, is_signed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

SCHEME = "Sis"
"""Of the Authorization header; the era comes in the header below, with every answer and with a 401."""
ERA_HEADER = "Sis-Era"
PROOF_HEADER = "Sis-Proof"
SEALED = "application/vnd.sis.sealed"

_REQUEST = b"sis request 1\n"
_ANSWER = b"sis answer 1\n"
_KEY = b"sis answer key 1\n"
_LETTER = b"sis letter key 1\n"
_SHARE_BYTES = 32
_NONCE = bytes(12)
"""Each key encrypts one answer only, so its nonce need not differ."""

ERA = re.compile("[0-9a-f]{32}")
_PROOF = re.compile(
    rf"{SCHEME} era=([0-9a-f]{{32}}), share=([0-9a-f]{{64}}), body=([0-9a-f]{{64}}), proof=([0-9a-f]{{128}})"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as its signature binds it. `target` is path and query; era, share and body (its SHA-256) in hex."""

    node: str
    method: str
    target: str
    era: str
    share: str
    body: str

    @property
    def claim(self) -> bytes:
        words = (self.node, self.method, self.target, self.era, self.share, self.body)
        return "\n".join(words).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a request's Authorization header says."""

    era: str
    share: str
    body: str
    signature: str

    def asked(self, node: str, method: str, target: str) -> Asked:
        return Asked(node, method, target, self.era, self.share, self.body)


class Answer(NamedTuple):
    """An answer as it travels: the header `Sis-Proof`, and the body, sealed unless it is empty."""

    proof: str
    body: bytes


class Question:
    """One request of a node, signed, and the one key that opens its answer.

    key   the node's own
    era   what the head last said, 32 hex digits
    """

    def __init__(self, key: Signer, node: str, era: str, method: str, target: str, body: bytes | None = None) -> None:
        self._secret = _x25519().X25519PrivateKey.generate()
        share = self._secret.public_key().public_bytes_raw().hex()
        self._asked = Asked(node, method, target, era, share, digest_of(body or b""))
        signature = key.sign(self._asked.claim, domain=_REQUEST).hex()
        self.authorization = f"{SCHEME} era={era}, share={share}, body={self._asked.body}, proof={signature}"

    def open(self, head_key: str, status: int, proof: str | None, body: bytes) -> bytes:
        """The answer's content. Raises Refused unless the key `head_key` signed it as the answer to this question."""
        asked = self._asked
        signed = bytes.fromhex(proof) if proof and re.fullmatch("[0-9a-f]{128}", proof) else b""
        if not is_signed(head_key, signed, _said(asked, status, body), domain=_ANSWER):
            raise Refused(
                f"the answer to {asked.method} {asked.target} is not signed by the head's key {head_key[:16]}…",
                hint="someone between node and head, or another head at this address; a head with a new key has its"
                " nodes installed again",
            )
        if not body:
            return b""
        from cryptography.exceptions import InvalidTag

        try:
            share = body[:_SHARE_BYTES]
            secret = self._secret.exchange(_x25519().X25519PublicKey.from_public_bytes(share))
            return _cipher(secret, _answer_context(asked, share)).decrypt(_NONCE, body[_SHARE_BYTES:], None)
        except (InvalidTag, ValueError) as error:
            raise Refused(f"the answer to {asked.method} {asked.target} cannot be opened") from error


def read_proof(authorization: str) -> Proof | None:
    """The proof in an Authorization header, not checked yet; None when it holds none."""
    found = _PROOF.fullmatch(authorization)
    return Proof(*found.groups()) if found else None


def proves(public: str, asked: Asked, proof: Proof) -> bool:
    """Whether the holder of the node key `public` asked this."""
    return is_signed(public, bytes.fromhex(proof.signature), asked.claim, domain=_REQUEST)


def answered(signer: Signer, asked: Asked, status: int, content: bytes) -> Answer:
    """The head's answer to what was asked. Raises Refused for a share no key can come of."""
    sealed = b""
    if content:
        own = _x25519().X25519PrivateKey.generate()
        try:
            secret = own.exchange(_x25519().X25519PublicKey.from_public_bytes(bytes.fromhex(asked.share)))
        except ValueError as error:
            raise Refused("the request's share is not a key") from error
        share = own.public_key().public_bytes_raw()
        sealed = share + _cipher(secret, _answer_context(asked, share)).encrypt(_NONCE, content, None)
    return Answer(signer.sign(_said(asked, status, sealed), domain=_ANSWER).hex(), sealed)


class Letterbox:
    """Opens what nodes send for this head's eyes only. Its key ends with the process: no letter outlives its report."""

    def __init__(self) -> None:
        self._secret = _x25519().X25519PrivateKey.generate()
        self._share = self._secret.public_key().public_bytes_raw()

    @property
    def share(self) -> str:
        """What letters are sealed to, in hex. Nodes believe it because it comes in a signed answer."""
        return str(self._share.hex())

    def open(self, node: str, letter: bytes) -> bytes | None:
        """A letter's content; None when it was sealed to another key, for another node's name, or is no letter."""
        from cryptography.exceptions import InvalidTag

        share = letter[:_SHARE_BYTES]
        try:
            secret = self._secret.exchange(_x25519().X25519PublicKey.from_public_bytes(share))
            cipher = _cipher(secret, _letter_context(node, share, self._share))
            return cipher.decrypt(_NONCE, letter[_SHARE_BYTES:], None)
        except (InvalidTag, ValueError):
            return None


def letter(share: str, node: str, content: bytes) -> bytes:
    """`content` sealed to a head's letterbox by a key made for this letter only. Raises Refused for what is no key."""
    own = _x25519().X25519PrivateKey.generate()
    try:
        theirs = bytes.fromhex(share)
        secret = own.exchange(_x25519().X25519PublicKey.from_public_bytes(theirs))
    except ValueError as error:
        raise Refused("the head's letterbox is not a key") from error
    mine = own.public_key().public_bytes_raw()
    sealed: bytes = mine + _cipher(secret, _letter_context(node, mine, theirs)).encrypt(_NONCE, content, None)
    return sealed


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _said(asked: Asked, status: int, body: bytes) -> bytes:
    return b"\n".join((hashlib.sha256(asked.claim).digest(), str(status).encode(), body))


def _answer_context(asked: Asked, head_share: bytes) -> bytes:
    return _KEY + hashlib.sha256(asked.claim).digest() + head_share


def _letter_context(node: str, node_share: bytes, head_share: bytes) -> bytes:
    name = hashlib.sha256(node.encode("utf-8", "surrogateescape")).digest()
    return _LETTER + name + node_share + head_share


def _cipher(secret: bytes, context: bytes) -> ChaCha20Poly1305:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return ChaCha20Poly1305(HKDF(algorithm=SHA256(), length=32, salt=None, info=context).derive(secret))


def _x25519() -> ModuleType:
    try:
        from cryptography.hazmat.primitives.asymmetric import x25519
    except ImportError as error:
        raise SisError(
            "node and head cannot speak safely: the Python package 'cryptography' is missing",
            hint="install python3-cryptography in the image",
        ) from error
    return x25519
