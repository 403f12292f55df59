"""Gradient checking: backward against finite differences of forward.

    check.py    gradcheck(f, inputs): is the backward of f right?
    inputs.py   what it is given
    report.py   what it found, in words
    cases.py    what `minimix gradcheck` checks: every operation, layer and model

The check needs tensors only. The cases need all that they check, so they are imported by name:
`from minimix.gradcheck.cases import CASES`.
"""

from .check import gradcheck
from .report import GradcheckError, Report

__all__ = ["GradcheckError", "Report", "gradcheck"]
