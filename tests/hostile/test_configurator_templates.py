"""Site templates that would run away or break out: stopped with file and line, in little time and memory."""

from __future__ import annotations

import resource
import sys
import threading

import pytest

from configurator.errors import SiteInvalid
from configurator.facts import Facts
from configurator.record import Record
from configurator.sandbox import LARGEST, render_template

VALUES = {"record": Record(name="n001", id=1), "facts": Facts(), "vars": {"a": "b"}}

RUNAWAYS = {
    "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}": "takes more than",
    "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}": "the output is longer than",
    "{{ 'x' * 10**9 }}": "grows",
    "{{ 10**9 * 'x' }}": "grows",
    "{{ [1] * 10**9 }}": "grows",
    "{{ 9**9**9**9**9 }}": "a number grows too large",
    "{% set ns = namespace(x='x') %}{% for a in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}": "grows",
    "{% set ns = namespace(x='x') %}{% for a in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}": "grows",
    "{% set ns = namespace(x=[1]) %}{% for a in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}": "grows",
    "{% set ns = namespace(x='x') %}{% for a in range(40) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = y %}{% endfor %}": "grows",
    "{{ '%1000000000d' % 1 }}": "text is joined with ~, not with %",
    "{{ ['x' * 100000] * 10000 }}": "grows",
    "{{ (['x' * 100000] * 10000) ~ '' }}": "grows",
    "{{ (['x' * 100000] * 10000) | tojson }}": "grows",
    "{{ (['x' * 100000] * 10000) | string }}": "grows",
    "{{ (['x' * 100000] * 1000) | join }}": "grows",
    "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}": "grows",
    "{{ 'x' | indent(10**9) }}": "an indent is 0..64 wide",
    "{{ 'x' | center(10**9) }}": "No filter named 'center'",
    "{{ 'x'.ljust(10**9) }}": "access to attribute 'ljust' of 'str' object is unsafe",
    "{{ 'x'.zfill(10**9) }}": "access to attribute 'zfill' of 'str' object is unsafe",
    "{{ '{:>1000000000}'.format(1) }}": "access to attribute 'format' of 'str' object is unsafe",
    "{{ (5).to_bytes(10**9, 'big') }}": "access to attribute 'to_bytes' of 'int' object is unsafe",
    "{{ range(10**9) | list }}": "Range too big",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}": "maximum recursion depth exceeded",
    "{{ lipsum(n=10000) }}": "'lipsum' is undefined",
}  # fmt: skip

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ record.__class__ }}",
    "{{ record.__init__.__globals__ }}",
    "{{ record['__class__'] }}",
    "{{ record | attr('__class__') }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ self._TemplateReference__context }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ range.__self__ }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}",
    "{% extends '/etc/passwd' %}",
    "{{ record.groups.append('x') }}",
    "{{ vars.update({'a': 'x'}) }}",
    "{{ vars.clear() }}",
    "{{ [].append(1) }}",
    "{{ joiner.__call__.__globals__ }}",
    "{{ [record] | join(',', attribute='__class__') }}",
    "{{ [''] | map('attr', '__class__') | list }}",
]


@pytest.fixture(autouse=True)
def little_memory() -> None:
    """The whole process stays small: a peak that grew by more than 200 MB is a template that got through."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield  # type: ignore[misc]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize("text", RUNAWAYS)
def test_runaway(text: str) -> None:
    with pytest.raises(SiteInvalid) as caught:
        render_template("all/etc/x.j2", f"line\n{text}", VALUES)
    assert str(caught.value).startswith(("all/etc/x.j2:2: ", "all/etc/x.j2: "))
    assert RUNAWAYS[text] in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ESCAPES)
def test_escape(text: str) -> None:
    with pytest.raises(SiteInvalid) as caught:
        render_template("all/etc/x.j2", text, VALUES)
    assert str(caught.value).startswith("all/etc/x.j2:1: ")
    assert VALUES["vars"] == {"a": "b"}


def test_large_but_allowed() -> None:
    assert len(render_template("x.j2", "{% for a in range(1000) %}{{ 'x' * 1000 }}{% endfor %}", VALUES)) < LARGEST


def test_steps_are_counted_in_each_thread_alone() -> None:
    """Another thread's tracing is not touched, and ours is put back."""
    seen: list[str] = []

    def work() -> None:
        seen.append(render_template("x.j2", "{% for a in range(100) %}{{ a }},{% endfor %}", VALUES))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    before = sys.gettrace()
    for thread in threads:
        thread.join()
    assert sys.gettrace() is before
    assert len({*seen}) == 1
    assert len(seen) == 4


@pytest.mark.parametrize("name", ["e\u0301", "\u202e", "a\x00b", "{{", "%}", "#}"])
def test_odd_texts_are_kept_or_refused(name: str) -> None:
    try:
        assert render_template("x.j2", f"a{name}b", VALUES) == f"a{name}b"
    except SiteInvalid as error:
        assert error.message.startswith("x.j2:1: ")  # noqa: PT017
