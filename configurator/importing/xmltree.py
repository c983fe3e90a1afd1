"""XML as a plain tree, safely: no document type, no entities of its own, bounded depth and size."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from configurator.errors import ConfiguratorError

_LARGEST = 4 << 20
_DEEPEST = 32


@dataclass
class Element:
    """`text` is what stands directly in it, stripped; `line` where it begins."""

    name: str
    attributes: dict[str, str]
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, name: str) -> list[Element]:
        return [child for child in self.children if child.name == name]

    def texts(self, name: str) -> list[str]:
        """The texts of children of a name that have one."""
        return [child.text for child in self.all(name) if child.text]


def parse(name: str, text: str) -> Element:
    """The root element. Raises ConfiguratorError, "NAME:LINE: fault"."""
    if len(text) > _LARGEST:
        raise ConfiguratorError(f"{name} is larger than {_LARGEST} letters")
    parser = expat.ParserCreate()
    stack: list[Element] = []
    roots: list[Element] = []

    def refuse(*_arguments: object) -> None:
        raise ConfiguratorError(
            f"{name}:{parser.CurrentLineNumber}: has a document type or entities of its own",
            hint="remove the DOCTYPE; such files are not read",
        )

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, attributes, parser.CurrentLineNumber)
        if len(stack) >= _DEEPEST:
            raise ConfiguratorError(f"{name}:{element.line}: more than {_DEEPEST} elements in each other")
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def end(_tag: str) -> None:
        closed = stack.pop()
        closed.text = closed.text.strip()

    def characters(data: str) -> None:
        if stack:
            stack[-1].text += data

    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse  # type: ignore[assignment]  # it never returns
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    try:
        parser.Parse(text.encode(), True)
    except expat.ExpatError as error:
        raise ConfiguratorError(f"{name}:{error.lineno}: {expat.errors.messages[error.code]}") from error
    return roots[0]
