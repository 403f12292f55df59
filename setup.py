"""All is said in pyproject.toml, but for one thing: the lessons travel inside the package."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithLessons(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:  # they are found in the checkout
            return
        for notebook in Path("lessons").glob("*.ipynb"):
            target = Path(self.build_lib, "minimix", "lessons", notebook.name)
            self.mkpath(str(target.parent))
            self.copy_file(str(notebook), str(target))


setup(cmdclass={"build_py": WithLessons})
