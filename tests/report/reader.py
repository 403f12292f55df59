"""A page as a tree, read strictly: every element is closed in its turn."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

VOID = {"img", "link", "meta"}


class Element:
    def __init__(self, tag: str, attributes: dict[str, str | None]) -> None:
        self.tag, self.attributes = tag, attributes
        self.inside: list[Element | str] = []

    def __getitem__(self, name: str) -> str | None:
        return self.attributes.get(name)

    def __iter__(self) -> Iterator[Element]:
        """This element and all inside it."""
        yield self
        for part in self.inside:
            if isinstance(part, Element):
                yield from part

    def all(self, tag: str = "", look: str = "") -> list[Element]:
        """The elements of this tag, and of this class."""
        return [
            e
            for e in self
            if tag in ("", e.tag) and (not look or look in (e["class"] or "").split())
        ]

    def one(self, tag: str = "", look: str = "") -> Element:
        (found,) = self.all(tag, look)
        return found

    def id(self, name: str) -> Element:
        (found,) = [e for e in self if e["id"] == name]
        return found

    @property
    def text(self) -> str:
        """Its words, one blank between them."""
        return " ".join(" ".join(self._words()).split())

    def _words(self) -> Iterator[str]:
        for part in self.inside:
            yield from [part] if isinstance(part, str) else part._words()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> says a thing twice"
        element = Element(tag, dict(attrs))
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> inside <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def read(page: str) -> Element:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [reader.root], "something was not closed"
    return reader.root
