"""What pyproject.toml cannot say: a wheel carries ``conf/``, and ``launch.py`` as ``python -m causalmix``."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies what lies beside the packages in the source tree into the package of a wheel."""

    def run(self) -> None:
        """Copy the packages, then the configs; an editable install reads both where they lie."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "causalmix"
        shutil.copytree("conf", package / "conf", dirs_exist_ok=True)
        shutil.copy2("launch.py", package / "__main__.py")


setup(cmdclass={"build_py": BuildWithConfigs})
