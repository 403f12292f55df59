"""The checker is checked: it must catch every wrong gradient there is a mutant for."""

import pytest
from mutants import MUTANTS

from minimix import kernels
from minimix.gradcheck.cases import CASES


def test_there_are_enough():
    assert len(MUTANTS) >= 75


def notices(case):
    report = case.check()
    return not report and "backward raised" not in str(report)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(name, monkeypatch):
    operation, put_in_place = MUTANTS[name]
    cases = [case for case in CASES if case.operation == operation]
    with kernels.backend("numpy"):
        put_in_place(monkeypatch)
        # A mutant is to be wrong, not broken: a backward that raises needs no checker.
        catcher = next((case for case in cases if notices(case)), None)
        monkeypatch.undo()
        assert catcher, f"no case of {operation} notices"
        assert catcher.check()  # with the real one back in its place, all is well
