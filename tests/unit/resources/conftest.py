"""These tests use the worlds of the store's, the keys' and the backup tests together."""

import sys
from pathlib import Path

for room in ("store", "backup", "."):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))
