"""What pyproject.toml cannot say: a wheel takes along files from the repository's root, where hosts and people look for them.

They become ``hotlora/data/…`` (see hotlora/shipped.py). Everything else about the package is in pyproject.toml.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PATTERNS = ("configs/*.yaml", "javascript/*.js", "style.css", "install.py")


class BuildWithShippedFiles(build_py):
    """Copies them into the build folder; an editable install finds them where they are."""

    def run(self) -> None:
        super().run()
        for path in [] if self.editable_mode else self._find_shipped():
            target = Path(self.build_lib, "hotlora", "data", path)
            self.mkpath(str(target.parent))
            self.copy_file(path, str(target))

    def get_source_files(self) -> list[str]:
        """For source archives, which must hold them too."""
        return [*super().get_source_files(), *self._find_shipped()]

    @staticmethod
    def _find_shipped() -> list[str]:
        return sorted(path.as_posix() for pattern in PATTERNS for path in Path().glob(pattern))


setup(cmdclass={"build_py": BuildWithShippedFiles})
