"""One target under atheris, which follows coverage: ``python -m tests.fuzz.guided TARGET [ARGUMENT ...]``.

Started by ``python -m tests.fuzz``; the modules under test are instrumented as they are imported.
"""

from __future__ import annotations

import logging
import sys

import atheris

with atheris.instrument_imports(include=["mailstore", "protocols", "backup"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer's own arguments end it; an exception is a find."""
    logging.disable(logging.WARNING)
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
