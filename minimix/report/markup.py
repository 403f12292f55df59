"""HTML that text cannot break out of: whatever `el` did not make is text, and is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

VOID = ("img", "link", "meta")  # elements that have no end


class Html(str):
    """Text that is HTML already."""


def text(value: Any) -> Html:
    """A value as HTML that shows it."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def join(parts: Iterable[Any]) -> Html:
    """One after the other; what is None is left out."""
    return Html("".join(text(part) for part in parts if part is not None))


def el(tag: str, *inside: Any, **attributes: Any) -> Html:
    """An element.   el("p", "1 < 2", class_="note") -> <p class="note">1 &lt; 2</p>

    In an attribute's name `_` stands for `-`, except at the end; one that is None is left out.
    """
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    end = "" if tag in VOID else f"{join(inside)}</{tag}>"
    return Html(f"<{tag}{words}>{end}")
