"""Numbers and names as the page shows them."""

from __future__ import annotations

import math


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
