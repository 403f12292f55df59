"""What goes wrong outside the mathematics: files, data sets, runs.

A wrong argument raises ValueError or TypeError, as NumPy's would. What a user can mend by doing
something else (another folder, another file, a smaller learning rate) raises a MinimixError, whose
message is one line that says what was found, what was expected and what to do; the command line
prints that line and exits with 1.
"""


class MinimixError(Exception):
    """Base of every error that is the world's fault rather than the program's."""


class DataError(MinimixError):
    """A data set is missing, damaged or not what its name promises."""


class CheckpointError(MinimixError):
    """A checkpoint or run folder is missing, damaged, in use, or of another model or version."""


class DivergenceError(MinimixError):
    """A loss, gradient or input stopped being finite."""
