"""Numbers and names as the page shows them."""

from __future__ import annotations

import math
import re


def number(value: float) -> str:
    """Three significant digits: 0.0123, 4.56, 789, 1,234."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞"
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    digits = 2 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def percent(value: float) -> str:
    """0.1234 -> 12.34 %, with a space that does not break"""
    return f"{100 * value:.2f}\u00a0%" if math.isfinite(value) else "–"


def printable(name: str) -> str:
    """A name with ? for what no font can draw: line breaks, control characters, half letters."""
    return "".join(c if c.isprintable() else "?" for c in name)


def layer_name(name: str) -> str:
    """A layer of a ConvMixer in words: blocks.2.0.fn.0 -> block 3 depthwise; others as they are."""
    known = {"stem.0": "patch embedding", "stem.2": "patch norm", "head": "head"}
    inside = {"0.fn.0": "depthwise", "0.fn.2": "norm", "1": "pointwise", "3": "norm after"}
    found = re.fullmatch(r"(blocks|stem)\.(\d+)\.(.+)", name)
    if not found or found[3] not in inside:
        return known.get(name, name)
    if found[1] == "blocks":
        return f"block {int(found[2]) + 1} {inside[found[3]]}"
    return f"stem block {int(found[2]) - 2} {inside[found[3]]}"  # after stem.2, the norm
