"""What differs, pure: desired tree × observed tree × rules × what was applied before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sis.image.documents.diff import what_differs
from sis.image.model import Entry, Kind, PolicyVerb
from sis.image.names import show_path
from sis.sync.planning.difference import CONTENT, Comparison, Difference, action_for
from sis.sync.planning.kernels import kernel_of, kernels_of, retained_of
from sis.sync.planning.links import Links, decide_links
from sis.sync.rules import Rules, parents_of
from sis.sync.walk.look import Found
from sis.sync.walk.observe import Observed
from sis.sync.walk.remembered import Remembered


def compare(
    want: Mapping[bytes, Entry],
    observed: Observed,
    rules: Rules,
    remembered: Remembered,
    *,
    retain: frozenset[str] = frozenset(),
    live: bool = False,
) -> Comparison:
    """Compare every held path.

    live    the tree is the running system: its sockets belong to running programs and stay
    retain  kernel releases (the running one) whose files are kept when the desired tree drops them; what earlier runs
            retained is kept as well until the desired tree's own kernels change
    """
    return _Comparing(want, observed, rules, remembered, retain, live).result()


class _Comparing:
    def __init__(
        self,
        want: Mapping[bytes, Entry],
        observed: Observed,
        rules: Rules,
        remembered: Remembered,
        retain: frozenset[str],
        live: bool,
    ) -> None:
        self.want = want
        self.observed = observed
        self.found = observed.found
        self.rules = rules
        self.remembered = remembered
        self.live = live
        self.kernels = kernels_of(want)
        self.retained = retained_of(self.kernels, retain, remembered)
        self.to_do: dict[bytes, Difference] = {}
        self.told: list[Difference] = []
        self.blocked: set[bytes] = set()
        self.owned: set[bytes] = set()
        self.absent: set[bytes] = set()
        self.unreachable = 0

    def result(self) -> Comparison:
        self._compare_desired()
        self._compare_extra()
        self._keep_directories_in_use()
        links = self._links()
        self._add_link_differences(links)
        return Comparison(
            to_do=tuple(self.to_do[path] for path in sorted(self.to_do)),
            told=tuple(sorted(self.told, key=lambda difference: difference.path)),
            leader_of={path: leader for path, leader in links.leader_of.items() if path in self.to_do},
            owned=frozenset(self.owned),
            absent=frozenset(self.absent),
            node_paths=tuple(
                path for path, difference in self.to_do.items() if difference.verb == "node" and difference.want
            ),
            kernels=self.kernels,
            retained=tuple(sorted(self.retained_here)),
            notices=tuple(self._notices()),
        )

    # What is desired.

    def _compare_desired(self) -> None:
        found = self.found
        off_limits = bool(self.observed.passed or self.observed.uncrossed)
        for path, entry in self.want.items():
            here = found.get(path)
            if here is not None and here.entry is entry:
                continue
            verb = self.rules.verb(path)
            if verb == "ignore" and not self.rules.is_passage(path):
                continue
            if off_limits and here is None and self._is_off_limits(path, verb):
                continue
            if self.blocked and not self._can_be_reached(path, entry, verb):
                continue
            self._compare_one(path, entry, here, verb)
            if entry.kind is Kind.DIR and path not in self.to_do and not _is_directory(here):
                self.blocked.add(path)

    def _compare_one(self, path: bytes, entry: Entry, here: Found | None, verb: PolicyVerb) -> None:
        if here is None:
            what: tuple[str, ...] = ()
        else:
            what = ("type",) if here.entry is None else self._differs(here.entry, entry)
            if not what:
                if verb == "node" and path in self.remembered.owned:
                    self.owned.add(path)
                return
            if verb == "ignore":
                return
        if verb == "node" and self._is_nodes_own(path, here):
            self.owned.add(path)
            return
        difference = Difference(path, action_for(here, what), what, entry, here, verb)
        if verb == "report" and not (here is None and path not in self.remembered.applied):
            self.told.append(difference)
        else:
            self.to_do[path] = difference

    def _can_be_reached(self, path: bytes, entry: Entry, verb: PolicyVerb) -> bool:
        """Whether the directory a path lies in is there or will be.

        One that the node has removed is made again for what is enforced below it; one that the node has made something
        else of stays that.
        """
        above = [parent for parent in parents_of(path) if parent in self.blocked]
        if not above:
            return True
        if verb == "enforce" and not any(parent in self.found for parent in above):
            for parent in above:
                self.blocked.discard(parent)
                self.owned.discard(parent)
                self.told = [difference for difference in self.told if difference.path != parent]
                self.to_do[parent] = Difference(parent, "create", (), self.want[parent], None)
            return True
        if verb == "enforce":
            self.told.append(Difference(path, "keep", (), entry, None))
        if entry.kind is Kind.DIR:
            self.blocked.add(path)
        return False

    def _is_nodes_own(self, path: bytes, here: Found | None) -> bool:
        """Whether the node has made something of a `node` path: changed it, removed it, or had it before us."""
        remembered = self.remembered
        if path in remembered.owned:
            return True
        before = remembered.applied.get(path)
        if here is None:
            return before is not None and path not in remembered.absent
        if here.entry is None:
            return True
        for known in (before, remembered.intended.get(path)):
            if known is not None and not self._differs(here.entry, known):
                return False
        return True

    def _is_off_limits(self, path: bytes, verb: PolicyVerb) -> bool:
        if self.observed.is_unreachable(path):
            if verb != "ignore" and path not in self.observed.uncrossed:
                self.unreachable += 1
                if verb == "node":
                    self.absent.add(path)
            return True
        return any(path == passed or path.startswith(passed + b"/") for passed in self.observed.passed)

    # What is there and not desired.

    def _compare_extra(self) -> None:
        self.retained_here: set[str] = set()
        self.staying: set[bytes] = set(self.observed.passed) | set(self.observed.uncrossed)
        for path, here in self.found.items():
            if path in self.want:
                continue
            release = kernel_of(path)
            if release in self.retained:
                self.retained_here.add(release)
                self.staying.add(path)
                continue
            verb = self.rules.verb(path)
            if (
                (here.entry is None and self.live)
                or verb == "ignore"
                or (verb == "node" and self._is_nodes_own(path, here))
            ):
                self.staying.add(path)
                if path in self.remembered.owned:
                    self.owned.add(path)
                continue
            difference = Difference(path, "remove", (), None, here, verb)
            if verb == "report":
                self.told.append(difference)
                self.staying.add(path)
            else:
                self.to_do[path] = difference

    def _keep_directories_in_use(self) -> None:
        """A directory that holds what stays stays; one that had to become something else cannot, and is told."""
        in_use = {parent for path in self.staying for parent in parents_of(path)}
        for path in in_use:
            difference = self.to_do.get(path)
            if difference is None:
                continue
            if difference.want is None:
                del self.to_do[path]
            elif "type" in difference.what and _is_directory(difference.found):
                del self.to_do[path]
                self.told.append(
                    Difference(path, "keep", ("type",), difference.want, difference.found, difference.verb)
                )

    # Hard links.

    def _links(self) -> Links:
        return decide_links(self._groups(), self.observed.shared, self._inode_of, self._is_usable, self._leaves)

    def _groups(self) -> Iterator[tuple[bytes, ...]]:
        groups: dict[tuple[int, bytes], list[bytes]] = {}
        for path, entry in self.want.items():
            if entry.link and self._is_ours(path):
                groups.setdefault((entry.link, self.observed.area_of(path).mount), []).append(path)
        return (tuple(paths) for paths in groups.values())

    def _is_ours(self, path: bytes) -> bool:
        """Whether a desired path is right or about to be put right."""
        if path in self.to_do:
            return True
        here = self.found.get(path)
        if here is None or here.entry is None or path in self.owned:
            return False
        return self.rules.verb(path) in ("enforce", "node") and not self._differs(here.entry, self.want[path])

    def _inode_of(self, path: bytes) -> tuple[int, int] | None:
        here = self.found.get(path)
        return None if here is None else here.inode

    def _is_usable(self, path: bytes) -> bool:
        return path in self.want and self._is_ours(path) and not self._leaves(path)

    def _leaves(self, path: bytes) -> bool:
        difference = self.to_do.get(path)
        if difference is None:
            return False
        return difference.want is None or difference.found is None or bool(CONTENT.intersection(difference.what))

    def _add_link_differences(self, links: Links) -> None:
        for path in (*links.leader_of, *links.separate):
            before = self.to_do.get(path)
            here = self.found.get(path)
            if here is None or path not in self.want:
                continue
            if path in links.separate and before is not None and self._leaves(path):
                continue
            said = before.what if before else ()
            what = said if "type" in said else (*said, "link")
            verb = before.verb if before else self.rules.verb(path)
            self.to_do[path] = Difference(path, action_for(here, what), what, self.want[path], here, verb)

    def _differs(self, here: Entry, want: Entry) -> tuple[str, ...]:
        return what_differs(here, want, mtime=want.kind is not Kind.DIR or self.rules.holds_mtime(want.path))

    def _notices(self) -> Iterator[str]:
        if self.unreachable:
            mounts = ", ".join(show_path(mount) for mount in sorted(self.observed.uncrossed) if self._is_wanted(mount))
            yield (
                f"{self.unreachable} entries of the image lie below mount points that the disk layout does not name"
                f" ({mounts}); they were left alone"
            )
        for release in sorted(self.retained_here):
            yield f"kernel {release} is kept beside the image's own until the next change of kernel"
        for difference in self.told:
            if difference.action == "keep" and difference.found is not None:
                yield f"{show_path(difference.path)} stays a directory: below it is what the policy leaves to the node"
            elif difference.action == "keep":
                yield f"{show_path(difference.path)} cannot be placed: the node made something else of its directory"

    def _is_wanted(self, mount: bytes) -> bool:
        below = mount + b"/"
        return any(path.startswith(below) for path in self.want)


def _is_directory(found: Found | None) -> bool:
    return found is not None and found.entry is not None and found.entry.kind is Kind.DIR
