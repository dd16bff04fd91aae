"""What the repository holds, and what it must not."""

from __future__ import annotations

import subprocess
from configparser import ConfigParser

from tests.unit.test_house_rules import FILES, ROOT, module_of, name_of


def test_nothing_links_out_of_the_repository() -> None:
    """A link that leads somewhere on one machine leads nowhere in the clone of somebody else."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert paths
    assert [str(path) for path in paths if path.is_symlink()] == []


def test_no_machine_paths_or_unfinished_work() -> None:
    """Nothing names one machine's folders, and nothing is left for later."""
    for path in FILES:
        text = path.read_text("utf-8")
        for word in ("TODO", "FIXME", "XXX", "NotImplementedError"):
            assert word not in text, f"{name_of(path)}: {word}"


def test_every_package_is_installed() -> None:
    """A checkout finds one that setup.cfg forgets; whoever installs the program does not."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    folders = {module_of(path.parent) for path in FILES if path.name == "__init__.py"}
    assert set(setup["options"]["packages"].split()) == folders
