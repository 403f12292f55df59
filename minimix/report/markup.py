"""HTML that text cannot break out of: everything that `el` did not make is text, and is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VOID = ("img", "link", "meta")  # elements that have no end tag


class Html(str):
    """Text that is HTML already."""


def text(value: Any) -> Html:
    """A value as HTML that shows it."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(*parts: Any) -> Html:
    """The parts one after another; None is left out."""
    return Html("".join(text(part) for part in parts if part is not None))


def el(tag: str, *inside: Any, **attributes: Any) -> Html:
    """An element.   el("p", "1 < 2", class_="note") -> <p class="note">1 &lt; 2</p>

    In the name of an attribute `_` stands for `-`, except at the end; attributes that are None are
    left out.
    """
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    end = "" if tag in VOID else f"{join(*inside)}</{tag}>"
    return Html(f"<{tag}{words}>{end}")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str | None = None) -> Html:
    """A table; the first cell of each row is its heading."""
    columns = el("tr", *(el("th", cell, scope="col") for cell in head))
    lines = (
        el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:]))
        for row in rows
    )
    title = el("caption", caption) if caption else None
    whole = el("table", title, el("thead", columns), el("tbody", *lines))
    return el("div", whole, class_="scroll")


def pairs(values: Mapping[str, Any], look: str) -> Html:
    """A list of names, each with its value."""
    lines = (el("div", el("dt", name), el("dd", value)) for name, value in values.items())
    return el("dl", *lines, class_=look)


def note(words: str | None) -> Html | None:
    """A remark in small letters."""
    return el("p", words, class_="note") if words else None


def figure(title: str, drawing: Html, words: str | None = None, beside: Html | None = None) -> Html:
    """A drawing under its title, with words below it and something beside the title."""
    caption = el("figcaption", el("h3", title), beside)
    return el("figure", caption, drawing, note(words), class_="chart")


def details(summary: str, *inside: Html) -> Html:
    """Something that opens when it is clicked."""
    return el("details", el("summary", summary), *inside)
