"""Addresses, domains and login names as the directory compares them; pure.

Domains and local parts are compared without regard to case. A domain is kept as it was given, as
A-labels or as U-labels in NFC; the two spellings of one internationalised domain are two domains.
"""

import re
import unicodedata
from dataclasses import dataclass, field

from mailstore.errors import AddressInvalid

MAX_LOCAL_OCTETS = 64  # RFC 5321, 4.5.3.1.1
MAX_DOMAIN_OCTETS = 255  # RFC 5321, 4.5.3.1.2
MAX_ADDRESS_OCTETS = MAX_LOCAL_OCTETS + 1 + MAX_DOMAIN_OCTETS
MAX_LABEL_OCTETS = 63  # RFC 1035, 2.3.4; for a U-label a stricter bound than the RFC's
DETAIL_SEPARATOR = "+"

# RFC 5321's Dot-string with RFC 6531's extension: no quotes, spaces, controls or specials.
_ATOM = r"[^\x00-\x20\x7f-\xa0\"(),:;<>@\[\]\\.\ud800-\udfff\u2028\u2029]+"
_LOCAL_PART = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOMAIN_LABEL = re.compile(
    r"[0-9a-z\u00aa-\U0010ffff](?:[-0-9a-z\u00aa-\U0010ffff]*[0-9a-z\u00aa-\U0010ffff])?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """A comparable address. ``detail`` is what follows the first + of the local part, as written."""

    local: str = field(repr=False)
    domain: str = field(repr=False)
    detail: str | None = field(repr=False)

    @property
    def full(self) -> str:
        """The whole address, detail and all, lower case."""
        local = self.local if self.detail is None else self.local + DETAIL_SEPARATOR + self.detail
        return f"{_fold(local)}@{self.domain}"

    @property
    def base(self) -> str:
        """The address without its detail, lower case."""
        return f"{self.local}@{self.domain}"


def read_address(text: str | bytes) -> Address | None:
    """The address that ``text`` spells, None if it has no form that the directory can hold."""
    decoded = _decoded(text, MAX_ADDRESS_OCTETS)
    if decoded is None:
        return None
    local, at, domain_text = decoded.rpartition("@")
    domain = read_domain(domain_text)
    if not at or domain is None or len(local.encode("utf-8")) > MAX_LOCAL_OCTETS:
        return None
    if not _LOCAL_PART.fullmatch(local):
        return None
    base, plus, detail = local.partition(DETAIL_SEPARATOR)
    if not base or not plus:
        return Address(_fold(local), domain, None)
    return Address(_fold(base), domain, detail)


def read_domain(text: str | bytes) -> str | None:
    """A domain in the form the directory compares, None if it is not one."""
    decoded = _decoded(text, MAX_DOMAIN_OCTETS)
    if decoded is None:
        return None
    domain = _fold(decoded)
    labels = domain.split(".")
    if any(len(label.encode("utf-8")) > MAX_LABEL_OCTETS for label in labels):
        return None
    return domain if all(_DOMAIN_LABEL.fullmatch(label) for label in labels) else None


def read_login_name(text: str | bytes, default_domain: str | None) -> str | None:
    """The account name meant at a login; a bare name belongs to ``default_domain``. None if malformed."""
    decoded = _decoded(text, MAX_ADDRESS_OCTETS)
    if decoded is None:
        return None
    if "@" not in decoded:
        if default_domain is None:
            return None
        decoded = f"{decoded}@{default_domain}"
    address = read_address(decoded)
    return None if address is None else address.full


def require_address(text: str | bytes) -> Address:
    """Like :func:`read_address`; raises AddressInvalid."""
    if (address := read_address(text)) is None:
        raise AddressInvalid
    return address


def require_domain(text: str | bytes) -> str:
    """Like :func:`read_domain`; raises AddressInvalid."""
    if (domain := read_domain(text)) is None:
        raise AddressInvalid
    return domain


def _decoded(text: str | bytes, most: int) -> str | None:
    # Bound the length before normalising, so that a hostile one costs nothing; NFC may halve it.
    if len(text) > 2 * most:
        return None
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        normal = unicodedata.normalize("NFC", decoded)
        return normal if len(normal.encode("utf-8")) <= most else None
    except UnicodeError:
        return None


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text.lower())
