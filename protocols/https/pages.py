"""The pages behind invitations: HTML without scripts, readable on a telephone, light and dark. Pure but for
reading the templates.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

import segno
from markupsafe import Markup

from mailstore.model import AccessProtocol
from protocols.https.accounts import Joined, Welcomed
from protocols.https.connection import Response
from protocols.https.documents import templates, thunderbird_for_android
from protocols.https.facts import Server, SetupFacts
from protocols.limits import HttpsLimits

CONTENT_TYPE = "text/html; charset=utf-8"

MESSAGES = {
    400: ("That was not understood", "Your program has sent something that is not asked for here."),
    403: ("That comes from another site", "Open the link itself, and press the button there."),
    404: ("There is nothing here", "If you followed a link, check that you have all of it."),
    405: ("That is not possible here", "If you followed a link, open it in a browser."),
    409: (
        "This link is not for that",
        "What it gives cannot be set up in this way. It is not used up: go back and choose the other button,"
        " or ask for another link.",
    ),
    410: ("This link cannot be used", "It was used, has run out, or never existed. Ask for another one."),
    413: ("That was too much", "Your program has sent more than anything here takes."),
    429: (
        "Too many attempts",
        "Wait a few minutes, then press the button again. The link can still be used.",
    ),
    431: ("That was too much", "Your program has sent more than anything here takes."),
    501: ("That was not understood", "Your program has sent something that is not asked for here."),
    503: ("Not now", "The server cannot do this at the moment. Try again later, or ask for another link."),
}
"""What people are told with a status of HTTP (RFC 9110, section 15)."""


@cache
def style() -> str:
    """The style sheet of all pages."""
    return (Path(__file__).parent / "templates" / "style.css").read_text("utf-8")


@cache
def security_headers(facts: SetupFacts) -> tuple[tuple[str, str], ...]:
    """What every response says to browsers: nothing is loaded, framed, kept or told to anybody else.

    To a name that is everybody's own machine they are not bound to come by TLS again (RFC 6797): other
    programs there may have none.
    """
    digest = base64.b64encode(hashlib.sha256(style().encode("utf-8")).digest()).decode("ascii")
    policy = (
        "default-src 'none'", f"style-src 'sha256-{digest}'", "form-action 'self'", "base-uri 'none'",
        "frame-ancestors 'none'",
    )  # fmt: skip
    return (
        ("content-security-policy", "; ".join(policy)),
        *(() if facts.is_local else (("strict-transport-security", "max-age=31536000"),)),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    )


class Pages:
    """Makes pages about one server."""

    def __init__(self, facts: SetupFacts, limits: HttpsLimits) -> None:
        self._facts = facts
        self._limits = limits

    def invite(self, path: str) -> Response:
        """The page behind a link, whether or not there is such an invitation: looking costs nothing."""
        return self._page(200, "invite.html", action=path, code=self._link_code(path))

    def welcome(self, path: str, mistake: str = "") -> Response:
        """The page where the owner of a new account chooses a password."""
        least, most = self._limits.password_min_chars, self._limits.password_max_chars
        return self._page(
            400 if mistake else 200, "welcome.html", action=path, mistake=mistake, least=least, most=most
        )

    def welcomed(self, made: Welcomed, path: str) -> Response:
        """The recovery key, and how to go on; ``path`` is that of the device's invitation."""
        return self._page(
            200,
            "welcomed.html",
            address=made.name,
            recovery_key=made.recovery_key,
            action=path,
            code=self._link_code(path),
            minutes=made.device_valid_s // 60,
        )

    def joined(self, made: Joined) -> Response:
        """The settings with the app password."""
        facts = self._facts
        kinds: tuple[tuple[str, AccessProtocol, tuple[Server, ...]], ...] = (
            ("IMAP", AccessProtocol.IMAP, facts.imap),
            ("POP3", AccessProtocol.POP3, facts.pop3),
            ("Sending", AccessProtocol.SMTP, facts.smtp),
        )
        services = [(title, servers) for title, protocol, servers in kinds if made.allows(protocol)]
        scanned = None
        if made.allows(AccessProtocol.IMAP) and made.allows(AccessProtocol.SMTP):
            scanned = thunderbird_for_android(facts, made.name, made.app_password)
        return self._page(
            200,
            "joined.html",
            address=made.name,
            password=made.app_password,
            services=services,
            code="" if scanned is None else _code(scanned),
        )

    def message(self, status: int) -> Response:
        """A page that says why there is no other."""
        title, text = MESSAGES.get(status, MESSAGES[400])
        return self._page(status, "message.html", title=title, text=text)

    def _link_code(self, path: str) -> Markup:
        """A link for a telephone's camera; none where it would lead the telephone to itself."""
        return Markup("") if self._facts.is_local else _code(self._facts.url + path)

    def _page(self, status: int, template: str, **values: object) -> Response:
        page = templates().get_template(template)
        # The style sheet is ours and is not to be escaped.
        text = page.render(name=self._facts.name, style=Markup(style()), **values)  # noqa: S704  # a constant
        return Response(status, CONTENT_TYPE, text.encode("utf-8"))


def _code(text: str) -> Markup:
    """A QR code as SVG, dark on light in any scheme."""
    image = segno.make(text, error="m", micro=False)
    return Markup(image.svg_inline(border=3, dark="#000", light="#fff", omitsize=True))  # noqa: S704  # segno's own
