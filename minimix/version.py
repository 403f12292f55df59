"""The version, said once: in run folders, pages, `minimix --version` and the package itself."""

__version__ = "0.1.0"
