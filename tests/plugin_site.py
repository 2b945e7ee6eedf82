"""Packages with entry points in a temporary folder on sys.path, as an installer would leave them."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Site:
    """A folder that packages are installed into."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, package: str, code: str, groups: dict[str, dict[str, str]]) -> None:
        """Write the module ``package`` and its dist-info; ``groups`` are entry points by group and name."""
        (self.folder / f"{package}.py").write_text(textwrap.dedent(code))
        info = self.folder / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines: list[str] = []
        for group, points in groups.items():
            lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@contextmanager
def plugin_site(folder: Path) -> Iterator[Site]:
    """Inside the block packages of ``folder`` can be imported; afterwards none of them is left in this process."""
    sys.path.insert(0, str(folder))
    try:
        yield Site(folder)
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(folder)):
                del sys.modules[name]
