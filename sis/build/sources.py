"""Apt sources: read from the head in both of their forms, chosen for one release, written as deb822."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sis.build.distributions import Distribution
from sis.errors import NotFound


@dataclass(frozen=True)
class AptSource:
    """One archive: `suites` and `components` of `uri`. `signed_by` is a keyring file, or "" when none is named."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    architectures: tuple[str, ...] = ()


def read_head(root: Path = Path("/")) -> tuple[AptSource, ...]:
    """Every enabled binary source of the machine below `root`, in apt's order."""
    found: list[AptSource] = []
    folder = root / "etc/apt/sources.list.d"
    for path in (root / "etc/apt/sources.list", *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found += parse_stanzas(text) if path.suffix == ".sources" else parse_lines(text)
    return tuple(found)


def parse_lines(text: str) -> Iterator[AptSource]:
    """Sources in the one-line form: `deb [options] uri suite components…`."""
    for line in text.splitlines():
        found = re.fullmatch(r"\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+[^\s#]+)*)\s*(?:#.*)?", line)
        if found is None:
            continue
        written, uri, suite, components = found.groups()
        options = dict(option.split("=", 1) for option in (written or "").split() if "=" in option)
        yield AptSource(
            uri=uri.rstrip("/"),
            suites=(suite,),
            components=tuple(components.split()),
            signed_by=options.get("signed-by", ""),
            architectures=tuple(options.get("arch", "").replace(",", " ").split()),
        )


def parse_stanzas(text: str) -> Iterator[AptSource]:
    """Sources in the deb822 form. A key written inside the stanza counts as a keyring of its own (`inline`)."""
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        signed_by = fields.get("signed-by", "")
        for uri in fields.get("uris", "").split():
            yield AptSource(
                uri=uri.rstrip("/"),
                suites=tuple(fields.get("suites", "").split()),
                components=tuple(fields.get("components", "").split()),
                signed_by="inline" if "BEGIN PGP" in signed_by else signed_by,
                architectures=tuple(fields.get("architectures", "").split()),
            )


def for_release(
    found: Iterable[AptSource], distribution: Distribution, release: str, architecture: str
) -> tuple[AptSource, ...]:
    """Those sources that are the distribution's own for `release` and its parts (updates, security, …).

    Others on the head, of third parties or other releases, are left out. Raises NotFound when none is left.
    """
    chosen = []
    for source in found:
        suites = tuple(suite for suite in source.suites if _belongs(suite, release))
        own = source.signed_by in ("", *distribution.keyrings)
        meant = not source.architectures or architecture in source.architectures
        if suites and own and meant and source.components and distribution.components.issuperset(source.components):
            signed_by = source.signed_by or distribution.keyrings[0]
            chosen.append(AptSource(source.uri, suites, source.components, signed_by))
    if not chosen:
        raise NotFound(
            f"the head has no apt sources of {distribution.name} {release}",
            hint="write the archives into the image spec, under 'sources:'",
        )
    return tuple(chosen)


def render(sources: Iterable[AptSource]) -> str:
    """The sources as a deb822 file."""
    return "\n".join(
        f"Types: deb\nURIs: {source.uri}\nSuites: {' '.join(source.suites)}\n"
        f"Components: {' '.join(source.components)}\nSigned-By: {source.signed_by}\n"
        for source in sources
    )


def _belongs(suite: str, release: str) -> bool:
    return suite == release or suite.startswith((f"{release}-", f"{release}/"))


def _fields(stanza: str) -> Mapping[str, str]:
    """Field (small letters) → its text, continuation lines joined; comment lines are skipped."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[0].isspace() and name:
            fields[name] += f" {line.strip()}"
        elif ":" in line:
            name, _, text = line.partition(":")
            name = name.strip().lower()
            fields[name] = text.strip()
    return fields
