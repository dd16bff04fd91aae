"""Take the pictures in docs/pictures of the HTTPS door's pages (Debian: chromium, imagemagick).

    .venv/bin/python -m tests.door_pictures

The pages are those of the program, with settings and secrets made up.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mailstore.invitations import DEVICE_VALID_S
from protocols.https.accounts import Joined, Welcomed
from protocols.https.connection import Response
from protocols.https.facts import PolicyFacts, Server, SetupFacts
from protocols.https.pages import Pages
from protocols.limits import HttpsLimits

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
FACTS = SetupFacts(
    "Example Mail",
    "https://mail.example.org",
    (Server("mail.example.org", 993),),
    (Server("mail.example.org", 995),),
    (Server("mail.example.org", 465), Server("mail.example.org", 587, starttls=True)),
    PolicyFacts(("mail.example.org",), "testing", 604_800),
)
PATH = "/invite/" + "k7qm2x9a" * 5
ADDRESS = "ada@example.org"
RECOVERY_KEY = "sbrk-2qav-9fej-xg20-k06y-wj9n-yncv-ve7w-gd7a-sn6c-63wv-3r4b"
TELEPHONE, DESKTOP = 390, 900
"""Widths in CSS pixels."""
SCHEMES = {"dark": 0, "light": 1}
CHROMIUM_S = 60


@dataclass(frozen=True, slots=True)
class Shown:
    """A page, and the pictures of it: width, height, scheme."""

    page: Response
    pictures: tuple[tuple[int, int, str], ...]


def pages() -> dict[str, Shown]:
    """Each page by the name of its pictures."""
    made = Pages(FACTS, HttpsLimits())
    joined = made.joined(Joined(ADDRESS, "k7qm-2x9a-7s4e-0zwf-5jbh-tq1c-r8yd", None))
    welcomed = made.welcomed(Welcomed(ADDRESS, RECOVERY_KEY, "", DEVICE_VALID_S), PATH)
    return {
        "invite": Shown(made.invite(PATH), _all(460, 590)),
        "settings": Shown(joined, _all(1090, 960)),
        "welcome": Shown(made.welcome(PATH), ((TELEPHONE, 600, "light"), (DESKTOP, 590, "dark"))),
        "recovery-key": Shown(welcomed, ((TELEPHONE, 740, "dark"), (DESKTOP, 860, "light"))),
    }


def _all(telephone: int, desktop: int) -> tuple[tuple[int, int, str], ...]:
    sizes = ((TELEPHONE, telephone), (DESKTOP, desktop))
    return tuple((width, height, scheme) for width, height in sizes for scheme in SCHEMES)


def take(page: Path, picture: Path, width: int, height: int, scheme: int) -> None:
    """One picture. Raises CalledProcessError."""
    subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--window-size={width},{height}", f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={picture}", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=CHROMIUM_S,
    )  # fmt: skip
    # A page has few colours; with a palette of them the file is a third as large.
    palette = ["-strip", "+dither", "-colors", "64", f"PNG8:{picture}"]
    subprocess.run(["convert", str(picture), *palette], check=True, timeout=CHROMIUM_S)


def main() -> int:
    """Take them all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, shown in pages().items():
            page = Path(folder) / f"{name}.html"
            page.write_bytes(shown.page.body)
            for width, height, scheme in shown.pictures:
                device = "telephone" if width == TELEPHONE else "desktop"
                take(page, PICTURES / f"{name}-{device}-{scheme}.png", width, height, SCHEMES[scheme])
    return 0


if __name__ == "__main__":
    sys.exit(main())
