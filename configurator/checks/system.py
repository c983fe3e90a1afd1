"""What the node is called, its time and language, its kernel modules, how it boots, what its users load."""

from __future__ import annotations

import re
from collections.abc import Iterator

from configurator import windows
from configurator.checks.peers import group_faults
from configurator.checks.values import (
    PLAIN_PATH,
    Fault,
    address_faults,
    domain_faults,
    host_name_faults,
    is_domain,
    is_module_name,
    looks_like_address,
    module_faults,
    parsed_address,
    shown,
)
from configurator.errors import ConfiguratorError
from configurator.record import Boot, Environment, Keyboard, Record

_CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_*?:.,+=/-]{0,254}", re.ASCII)
_MODULE_OPTIONS = re.compile(r"[A-Za-z0-9_][ -#%&(-\[\]^_a-~]*", re.ASCII)
_MACHINE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_HOSTID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_TIMEZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(?:/[A-Za-z0-9][A-Za-z0-9_+-]{0,30}){0,2}", re.ASCII)
_LOCALE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,15}(?:\.[A-Za-z0-9-]{1,15})?(?:@[a-z]{1,15})?", re.ASCII)
_XKB = re.compile(r"[A-Za-z0-9_,:+()-]{0,64}", re.ASCII)
_KEYMAP = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9_+.-]{0,63})?", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z0-9_][!-~]*", re.ASCII)
_FORBIDDEN_IN_PARAMETERS = re.compile(r"[\"'`$\\;|&<>(){}#]")
_RELEASE = re.compile(r"[0-9][A-Za-z0-9._+~-]{0,63}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_SOFTWARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(?:/[A-Za-z0-9][A-Za-z0-9._+-]*){0,4}", re.ASCII)
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*", re.ASCII)
_LONGEST_LINE = 2048


def identity_faults(record: Record) -> Iterator[Fault]:
    yield from host_name_faults("record.name", record.name)
    if not 0 <= record.id < 2**31:
        yield Fault("record.id", f"not a node id (0..2147483647): {record.id}")
    if record.domain:
        yield from domain_faults("record.domain", record.domain)
        if is_domain(record.domain) and len(record.fqdn) > 253:
            yield Fault("record.domain", "the name with its domain is longer than 253 characters")
    if not _CLUSTER.fullmatch(record.cluster):
        yield Fault("record.cluster", f"not a cluster's name (letters, digits, '.', '_', '-'): {shown(record.cluster)}")
    if record.head:
        yield from address_faults("record.head", record.head)
    yield from host_name_faults("record.head_name", record.head_name)
    if record.mail_name is not None and not is_domain(record.mail_name):
        yield Fault("record.mail_name", f"not a domain name: {shown(record.mail_name)}")
    if record.machine_id is not None and (
        not _MACHINE_ID.fullmatch(record.machine_id) or set(record.machine_id) == {"0"}
    ):
        yield Fault("record.machine_id", f"not 32 lower-case hex digits, not all zero: {shown(record.machine_id)}")
    if record.hostid is not None and not _HOSTID.fullmatch(record.hostid):
        yield Fault("record.hostid", f"not eight lower-case hex digits: {shown(record.hostid)}")
    for at, line in enumerate(record.motd):
        if not _is_line(line):
            yield Fault(f"record.motd[{at}]", f"not one line of text: {shown(line)}")
    yield from _site_faults(record)


def _site_faults(record: Record) -> Iterator[Fault]:
    """What chooses and fills the site's files."""
    for field, names in (("groups", record.groups), ("profiles", record.profiles)):
        for at, name in enumerate(names):
            yield from group_faults(f"record.{field}[{at}]", name)
    for name, value in record.vars.items():
        if not _VARIABLE.fullmatch(name):
            yield Fault("record.vars", f"not a variable's name (letters, digits and '_'): {shown(name)}")
        elif not _is_line(value):
            yield Fault(f"record.vars.{name}", f"not one line of text: {shown(value)}")


def _is_line(text: str) -> bool:
    return text.isprintable() and len(text) <= _LONGEST_LINE


def time_and_language_faults(record: Record) -> Iterator[Fault]:
    if not _TIMEZONE.fullmatch(record.timezone):
        yield Fault("record.timezone", f"not a time zone such as Europe/Berlin: {shown(record.timezone)}")
    for at, server in enumerate(record.time_servers):
        if parsed_address(server) is None and (not is_domain(server) or looks_like_address(server)):
            yield Fault(f"record.time_servers[{at}]", f"not an IP address nor a host's name: {shown(server)}")
    for at, window in enumerate(record.windows):
        if not _is_window(window):
            place = f"record.windows[{at}]"
            yield Fault(place, f"not a maintenance window such as {windows.EXAMPLE}: {shown(window)}")
    if record.locale is not None and not _LOCALE.fullmatch(record.locale):
        yield Fault("record.locale", f"not a locale such as en_US.UTF-8: {shown(record.locale)}")
    if record.keyboard is not None:
        yield from _keyboard(record.keyboard)


def _is_window(text: str) -> bool:
    try:
        windows.parse(text)
    except ConfiguratorError:
        return False
    return True


def _keyboard(keyboard: Keyboard) -> Iterator[Fault]:
    place = "record.keyboard"
    if not keyboard.layout:
        yield Fault(f"{place}.layout", "a keyboard has a layout such as us or de")
    words = {"layout": keyboard.layout, "variant": keyboard.variant}
    for field, value in (words | {"model": keyboard.model, "options": keyboard.options}).items():
        if not _XKB.fullmatch(value):
            yield Fault(f"{place}.{field}", f"not a word of XKB: {shown(value)}")
    if not _KEYMAP.fullmatch(keyboard.keymap):
        yield Fault(f"{place}.keymap", f"not a keymap's name: {shown(keyboard.keymap)}")


def modules_faults(record: Record) -> Iterator[Fault]:
    for at, module in enumerate(record.modules):
        place = f"record.modules[{at}]"
        yield from module_faults(f"{place}.name", module.name)
        if module.alias is not None and not _ALIAS.fullmatch(module.alias):
            yield Fault(f"{place}.alias", f"not an alias modprobe knows: {shown(module.alias)}")
        yield from _module_options(f"{place}.options", module.options)
    for at, name in enumerate(record.blacklist):
        yield from module_faults(f"record.blacklist[{at}]", name)


def _module_options(place: str, options: str) -> Iterator[Fault]:
    if options and (len(options) > 1024 or not _MODULE_OPTIONS.fullmatch(options)):
        yield Fault(place, f'not module options (name=value, no quotes but ", no $, ` or \\): {shown(options)}')
    elif options.count('"') % 2:
        yield Fault(place, f'a " is not closed: {shown(options)}')


def boot_faults(boot: Boot) -> Iterator[Fault]:
    for at, word in enumerate(boot.parameters):
        if len(word) > _LONGEST_LINE or not _PARAMETER.fullmatch(word) or _FORBIDDEN_IN_PARAMETERS.search(word):
            yield Fault(f"record.boot.parameters[{at}]", f"not one word of a kernel's command line: {shown(word)}")
    if boot.kernel is not None and not _RELEASE.fullmatch(boot.kernel):
        yield Fault("record.boot.kernel", f"not a kernel release such as 6.1.0-37-amd64: {shown(boot.kernel)}")
    if not 0 <= boot.timeout_s <= 3600:
        yield Fault("record.boot.timeout_s", f"not 0..3600 s: {boot.timeout_s}")


def environment_faults(environment: Environment) -> Iterator[Fault]:
    place = "record.environment"
    for at, software in enumerate(environment.defaults):
        if not _is_software(software.name):
            yield Fault(f"{place}.defaults[{at}].name", f"not a modulefile such as mpi/openmpi: {shown(software.name)}")
        if len(software.version) > 128 or not _VERSION.fullmatch(software.version):
            yield Fault(f"{place}.defaults[{at}].version", f"not a modulefile's version: {shown(software.version)}")
    for at, name in enumerate(environment.load):
        if not _is_software(name):
            yield Fault(f"{place}.load[{at}]", f"not a modulefile such as mpi/openmpi: {shown(name)}")
    if environment.path and (len(environment.path) > 256 or not _is_directory(environment.path)):
        yield Fault(f"{place}.path", f"not an absolute path of plain letters: {shown(environment.path)}")


def _is_directory(path: str) -> bool:
    return PLAIN_PATH.fullmatch(path) is not None and not {".", ".."} & {*path.split("/")}


def _is_software(name: str) -> bool:
    return len(name) <= 128 and _SOFTWARE.fullmatch(name) is not None


def driver_faults(drivers: list[tuple[str, str]]) -> Iterator[Fault]:
    """For (place, driver): the drivers that cannot be kernel modules."""
    for place, name in drivers:
        if name and not is_module_name(name):
            yield Fault(place, f"not a kernel module's name: {shown(name)}")
