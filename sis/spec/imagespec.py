"""Image specs: what an image is made of (imagespecs/*.yaml), with `extends` and package lists resolved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from sis.errors import NotFound, SisError
from sis.spec import merging, yamlio
from sis.spec import search as spec_search
from sis.spec.merging import Node, Rules
from sis.spec.model import AbsolutePath, Count, Flag, Mode, Name, Reading, Spec, Text, TimeZone, matching, said, unknown
from sis.spec.places import Fault, Path, Place, dotted, refuse

Distribution = Literal["debian", "ubuntu"]
Verb = Literal["enforce", "report", "ignore", "node"]

_ARCHITECTURES = {"x86-64": "amd64", "amd64": "amd64", "arm64": "arm64", "aarch64": "arm64"}
_RULES = Rules({("files",): "target", ("users",): "name"}, frozenset({("policy",)}))
_LISTS_OF_PATHS = (("scripts", "postinst"), ("scripts", "finalize"))


PackageName = Annotated[
    Text,
    matching(
        r"[a-z0-9][a-z0-9+.-]*(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?", "must be a package such as bash or bash=5.2.15-2+b8"
    ),
]
UserName = Annotated[Text, matching(r"[a-z_][a-z0-9_-]{0,31}", "must be a user name")]


class Source(Spec):
    """One apt source."""

    uri: Annotated[Text, matching(r"(https?|copy)://\S*", "must be a URI such as http://head/debian")]
    suite: Text
    components: tuple[Text, ...] = ("main",)
    signed_by: AbsolutePath
    """The keyring that signs it, a file on the head."""


class KernelSpec(Spec):
    """The kernel of the image. `package` may be left out when a package list brings it."""

    package: PackageName | None = None
    command_line: Text = ""
    modules: tuple[Text, ...] = ()
    """Modules every node of the image loads at boot."""
    initramfs: Literal["uncompressed", "packaged"] = "uncompressed"
    """Uncompressed ones share their bytes with the next version; `packaged`: as the distribution makes them."""


class FileSpec(Spec):
    """Laid over the tree: `source` (file or folder, relative to the spec), `content`, `link` or `directory`."""

    target: AbsolutePath
    source: Text | None = None
    content: Text | None = None
    link: Text | None = None
    """Target of a symlink."""
    directory: Flag = False
    """True: an empty directory."""
    mode: Mode | None = None
    """Default 0644; 0755 for directories and where the source is executable."""
    owner: Annotated[Text, matching(r"[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)?", "must be user or user:group")] = "root:root"

    @model_validator(mode="after")
    def _one_origin(self) -> FileSpec:
        given = [name for name in ("source", "content", "link") if getattr(self, name) is not None]
        given += ["directory"] if self.directory else []
        if len(given) != 1:
            said = " and ".join(given) or "none"
            raise ValueError(f"needs exactly one of source, content, link and directory, not {said}")
        return self


class UserSpec(Spec):
    """A user of the image; `password` is a crypt(5) hash, locked when there is none."""

    name: UserName
    uid: Count | None = None
    groups: tuple[UserName, ...] = ()
    home: AbsolutePath | None = None
    shell: AbsolutePath = "/bin/bash"
    comment: Text = ""
    password: Annotated[Text, matching(r"[!*]|\$[0-9a-z]+\$\S+", "must be a hash by mkpasswd")] | None = None
    system: Flag = False
    ssh_authorized_keys: tuple[Text, ...] = ()


class ScriptsSpec(Spec):
    """Programs (relative to the spec) run inside the tree, without network: after the packages, and at the very end."""

    postinst: tuple[Text, ...] = ()
    finalize: tuple[Text, ...] = ()


def _none(value: object) -> object:
    return None if value == "none" else value if value is not None else {}


def _host(value: object) -> object:
    if value == "host":
        return ()
    if value == [] or not isinstance(value, list):
        raise ValueError(f"must be host (the head's own sources) or a list of sources, not {said(value)}")
    return value


def _architecture(value: object) -> object:
    if isinstance(value, str):
        if value not in _ARCHITECTURES:
            raise ValueError(f"must be x86-64 or arm64, not '{value}'")
        return _ARCHITECTURES[value]
    return value


class ImageSpec(Spec):
    """An image, `extends` and `lists` resolved: `packages` is complete, paths are absolute, every value has a place."""

    image: Name
    extends: Text | None = None
    distribution: Distribution
    release: Text
    architecture: Annotated[Literal["amd64", "arm64"], BeforeValidator(_architecture)] = "amd64"
    sources: Annotated[tuple[Source, ...], BeforeValidator(_host)] = ()
    """Empty: the head's own sources for this release."""
    base: Literal["minbase", "apt", "essential"] = "minbase"
    """What is there before `packages`, as mmdebstrap names it."""
    recommends: Flag = False
    packages: tuple[PackageName, ...] = ()
    lists: tuple[Text, ...] = ()
    remove: tuple[PackageName, ...] = ()
    """Packages taken out again after everything is installed."""
    leave_out: tuple[
        Annotated[Text, matching(r"docs|man|locales|!?/\S+", "must be docs, man, locales, /a/pattern or !/a/pattern")],
        ...,
    ] = ()
    """Parts of packages never unpacked: `docs`, `man`, `locales` or a dpkg path pattern (`!`: but this one)."""
    kernel: Annotated[KernelSpec | None, BeforeValidator(_none)] = KernelSpec()
    """None (`kernel: none`): the image has no kernel on purpose."""
    files: tuple[FileSpec, ...] = ()
    users: tuple[UserSpec, ...] = ()
    scripts: ScriptsSpec = ScriptsSpec()
    policy: dict[AbsolutePath, Verb] = Field(default_factory=dict)
    """Path pattern → verb, in order; the last that matches wins."""
    disk: Text | None = None
    """Name of the disk layout nodes of this image get."""
    agent: Flag = True
    locale: Text = "C.UTF-8"
    timezone: TimeZone = "UTC"

    _document: yamlio.Document = PrivateAttr()
    _folders: tuple[FilePath, ...] = PrivateAttr()

    @property
    def folders(self) -> tuple[FilePath, ...]:
        """Where names in this spec are looked up, such as `disk` in `disks/`."""
        return self._folders

    def place(self, *path: str | int) -> Place:
        """Where the value at `path`, such as ("packages", 3), is written: in this spec, one it extends, or a list."""
        return self._document.place(path)

    def canonical(self) -> str:
        """The resolved spec as JSON, for the record of what made a version; files by name, not by place."""
        shown = self.model_copy(
            update={
                "files": tuple(
                    file.model_copy(update={"source": FilePath(file.source).name}) if file.source else file
                    for file in self.files
                ),
                "scripts": ScriptsSpec(
                    postinst=tuple(FilePath(script).name for script in self.scripts.postinst),
                    finalize=tuple(FilePath(script).name for script in self.scripts.finalize),
                ),
            }
        )
        return shown.model_dump_json(exclude_defaults=True)


def load(name_or_path: str | FilePath, *, search: Sequence[FilePath] | None = None) -> ImageSpec:
    """Read an image spec by name or path, with what it extends and its package lists.

    Names are looked up in the spec's own folder, then in `search` (default: the site's and the shipped folder).
    Raises NotFound with near names, SpecInvalid with every fault of all the files.
    """
    folders = tuple(spec_search.folders() if search is None else search)
    path = spec_search.find("image spec", str(name_or_path), folders)
    folders = tuple(dict.fromkeys((path.parent, *folders)))
    faults: list[Fault] = []
    tree = merging.settle(_chain(path, folders, faults, ()), _RULES, faults)
    document = merging.document(_absolute_paths(tree, faults), str(path))
    reading = Reading[ImageSpec](document, faults=faults)
    spec = reading.finish(ImageSpec, _removes_what_it_adds, lambda spec: _layout_is_there(spec, folders))
    spec._document = document
    spec._folders = folders
    return spec


def names(search: Sequence[FilePath] | None = None) -> list[str]:
    """The image specs that `load` finds by name."""
    return spec_search.names(spec_search.folders() if search is None else search)


def _chain(path: FilePath, folders: Sequence[FilePath], faults: list[Fault], below: tuple[FilePath, ...]) -> Node:
    """The tree of a spec laid over those it extends, package lists read."""
    tree = merging.nodes(yamlio.load(path, faults))
    if not isinstance(tree.value, dict):
        faults.append(Fault(tree.place, "", "must be a mapping of keys such as image, release, packages"))
        raise refuse(str(path), faults)
    tree = _with_lists(tree, folders, faults)
    extends = tree.value.get("extends")
    if extends is None or not isinstance(extends.value, str):
        return tree
    try:
        parent = _find_beside(extends, folders)
    except NotFound as error:
        faults.append(Fault(extends.place, "extends", _told(error)))
        return tree
    chain = (*below, path.resolve())
    if parent.resolve() in chain:
        names = " → ".join(step.stem for step in (*chain, parent))
        raise refuse(str(path), [*faults, Fault(extends.place, "extends", f"goes in a circle: {names}")])
    lower = _chain(parent, folders, faults, chain)
    own = {key: node for key, node in lower.value.items() if key not in ("image", "extends")}
    return merging.lay_over(replace(lower, value=own), tree, _RULES, faults)


def _find_beside(extends: Node, folders: Sequence[FilePath]) -> FilePath:
    """The spec an `extends` means; a relative path is relative to the file it is written in."""
    name, here = str(extends.value), FilePath(extends.place.file).parent
    if "/" in name or name.endswith(".yaml"):
        return spec_search.find("image spec", str(here / name), ())
    return spec_search.find("image spec", name, (here, *folders))


def _with_lists(tree: Node, folders: Sequence[FilePath], faults: list[Fault]) -> Node:
    """A tree whose `packages` begin with those of its `lists`."""
    lists, packages = tree.value.get("lists"), tree.value.get("packages")
    if lists is None or not isinstance(lists.value, list):
        return tree
    if packages is not None and not isinstance(packages.value, list):
        return tree
    listed: list[Node] = []
    for node in lists.value:
        if isinstance(node.value, str) and not node.value.startswith("-"):
            listed += _package_list(node, folders, faults)
    own = packages.value if packages is not None else []
    together = Node([*listed, *own], packages.place if packages is not None else lists.place)
    return replace(tree, value={**tree.value, "packages": together})


def _package_list(name: Node, folders: Sequence[FilePath], faults: list[Fault]) -> list[Node]:
    here = FilePath(name.place.file).parent
    try:
        path = spec_search.find(
            "package list", name.value, [folder / "lists" for folder in (here, *folders)], suffix=".list"
        )
        lines = path.read_text(encoding="utf-8").splitlines()
    except NotFound as error:
        faults.append(Fault(name.place, "lists", _told(error)))
        return []
    except (OSError, UnicodeDecodeError) as error:
        faults.append(Fault(name.place, "lists", f"{name.value} cannot be read: {error}"))
        return []
    found = []
    for number, line in enumerate(lines, 1):
        word = line.split("#", 1)[0].strip()
        if word:
            found.append(Node(word, Place(str(path), number, line.index(word) + 1)))
    return found


def _told(error: SisError) -> str:
    return f"{error.message}{f' ({error.hint})' if error.hint else ''}"


def _absolute_paths(tree: Node, faults: list[Fault]) -> Node:
    """Paths relative to the file they are written in become absolute; those that are not there are faults."""

    def resolve(node: Node, path: Path) -> Node:
        if not isinstance(node.value, str):
            return node
        found = FilePath(node.place.file).parent.absolute() / node.value
        if not found.exists():
            faults.append(Fault(node.place, dotted(path), f"no such file: {node.value}"))
        return replace(node, value=str(found))

    def below(node: Node, path: Path) -> Node:
        if isinstance(node.value, dict):
            keep: dict[str, Any] = {key: below(child, (*path, key)) for key, child in node.value.items()}
            return replace(node, value=keep)
        if isinstance(node.value, list):
            return replace(node, value=[below(child, (*path, at)) for at, child in enumerate(node.value)])
        is_source = len(path) == 3 and path[0] == "files" and path[2] == "source"
        return resolve(node, path) if is_source or (path[:2] in _LISTS_OF_PATHS and len(path) == 3) else node

    return below(tree, ())


def _removes_what_it_adds(spec: ImageSpec) -> Iterator[tuple[Path, str]]:
    for at, name in enumerate(spec.remove):
        if name in spec.packages:
            yield ("remove", at), f"'{name}' is also in packages (there, write '-{name}' instead)"


def _layout_is_there(spec: ImageSpec, folders: Sequence[FilePath]) -> Iterator[tuple[Path, str]]:
    known = spec_search.names([folder / "disks" for folder in folders])
    if spec.disk is not None and "/" not in spec.disk and spec.disk not in known:
        yield ("disk",), unknown("disk layout", spec.disk, known)
