"""What a gradient check found, as numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Index = tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What `gradcheck` found where backward and forward differ most.

    operation  the name of f
    error      |backward − forward| / (the larger of the two + atol/rtol); infinite where f could
               not be checked, or backward is not finite
    tolerance  what error may be; ok, and the truth of the report, is error ≤ tolerance
    argument   whose gradient it is; index: which number of it; output: of which number of f's
               result. None: along a random direction
    backward   the gradient according to backward
    forward    the same according to finite differences
    problem    what is wrong, where it is not a number
    """

    operation: str
    error: float
    tolerance: float
    argument: str = ""
    index: Index | None = None
    output: Index | None = None
    backward: float = 0.0
    forward: float = 0.0
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        measure = f"relative error {self.error:.2g}, tolerance {self.tolerance:.2g}"
        if self.ok:
            return f"{self.operation}: largest {measure}"
        if self.error == np.inf and self.problem:
            return f"{self.operation}: {self.problem}"
        at = "along a random direction" if self.index is None else f"at {list(self.index)}"
        of = "" if self.output is None else f" from output {list(self.output)}"
        hint = f"; {self.problem}" if self.problem else ""
        return (
            f"{self.operation}: gradient of {self.argument!r} {at}{of}: backward says "
            f"{self.backward:.10g}, forward {self.forward:.10g}; {measure}{hint}"
        )


class GradcheckError(AssertionError):
    """A backward does not agree with its forward. `report` has the numbers."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report
