"""The documents: what programs read in them is what the settings say, whatever is in those."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import plistlib
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from https_world import APP_PASSWORD, FACTS

from deploy.first_run import make_certificate
from mailstore.model import AccessProtocol
from protocols.https import documents
from protocols.https.accounts import Joined, Welcomed
from protocols.https.facts import PolicyFacts
from protocols.https.pages import Pages, security_headers
from protocols.https.profile import CannotSign, profile, read_signer
from protocols.limits import HttpsLimits

ADDRESS = "joe@example.org"
ODD = "a\"<&>'%{{7*7}}"
RESPONSE = "{http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a}"


def test_autoconfig() -> None:
    """Each server, the best first; the user name is the whole address."""
    root = ElementTree.fromstring(documents.autoconfig(FACTS, "example.org"))
    (provider,) = root
    assert (root.tag, root.get("version"), provider.get("id")) == ("clientConfig", "1.1", "example.org")
    servers = [one for one in provider if one.tag.endswith("Server")]
    assert [(one.get("type"), *(part.text for part in one if not len(part))) for one in servers] == [
        ("imap", "imap.example.org", "993", "SSL", "password-cleartext", "%EMAILADDRESS%"),
        ("pop3", "pop.example.org", "995", "SSL", "password-cleartext", "%EMAILADDRESS%"),
        ("smtp", "smtp.example.org", "465", "SSL", "password-cleartext", "%EMAILADDRESS%"),
        ("smtp", "smtp.example.org", "587", "STARTTLS", "password-cleartext", "%EMAILADDRESS%"),
    ]
    assert provider.findtext("incomingServer[2]/pop3/leaveMessagesOnServer") == "true"


def test_without_sending_thunderbird_is_told_to_use_another_server_for_it() -> None:
    """It takes no document without an outgoing server, so there is one that it need not use."""
    root = ElementTree.fromstring(documents.autoconfig(dataclasses.replace(FACTS, smtp=()), "example.org"))
    (outgoing,) = root.iter("outgoingServer")
    assert (outgoing.findtext("addThisServer"), outgoing.findtext("useGlobalPreferredServer")) == (
        "false",
        "true",
    )
    assert [one.findtext("hostname") for one in root.iter("incomingServer")] == [
        "imap.example.org",
        "pop.example.org",
    ]
    assert b"smtp.example.org" not in documents.autoconfig(dataclasses.replace(FACTS, smtp=()), "example.org")
    with_sending = documents.autoconfig(FACTS, "example.org")
    assert b"addThisServer" not in with_sending


def test_without_sending_outlook_is_told_of_none() -> None:
    """Nor do the pages, or a code to scan, which needs a server to send mail by."""
    without = dataclasses.replace(FACTS, smtp=())
    assert b"SMTP" not in documents.autodiscover(without, ADDRESS)
    text = Pages(without, HttpsLimits()).joined(Joined(ADDRESS, APP_PASSWORD, None)).body.decode()
    assert "imap.example.org" in text
    assert "Sending" not in text
    assert "<svg" not in text


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("https://localhost:1180", True),
        ("https://mail.localhost", True),
        ("https://127.0.0.1:8443", True),
        ("https://mail.example.org", False),
        ("https://localhost.example.org", False),
        ("https://127.example.org", False),
    ],
)
def test_a_door_on_ones_own_machine_binds_no_browser_and_shows_telephones_no_code(
    url: str, is_local: bool
) -> None:
    """Else browsers would reach nothing on localhost without TLS, and a telephone would ask itself."""
    facts = dataclasses.replace(FACTS, url=url)
    assert ("strict-transport-security" not in dict(security_headers(facts))) is is_local
    made = Pages(facts, HttpsLimits())
    welcomed = made.welcomed(Welcomed(ADDRESS, "key", "", 3600), "/invite/x")
    for page in (made.invite("/invite/x"), welcomed):
        assert (b"<svg" not in page.body) is is_local
        assert (b"camera" not in page.body) is is_local


def test_autodiscover() -> None:
    """One server of each kind."""
    root = ElementTree.fromstring(documents.autodiscover(FACTS, ADDRESS))
    found = [
        tuple(one.findtext(f"{RESPONSE}{name}") for name in ("Type", "Server", "Port", "LoginName", "SSL"))
        for one in root.iter(f"{RESPONSE}Protocol")
    ]
    assert found == [
        ("IMAP", "imap.example.org", "993", ADDRESS, "on"),
        ("POP3", "pop.example.org", "995", ADDRESS, "on"),
        ("SMTP", "smtp.example.org", "465", ADDRESS, "on"),
    ]
    only_starttls = dataclasses.replace(FACTS, smtp=FACTS.smtp[1:])
    text = documents.autodiscover(only_starttls, ADDRESS).decode()
    assert "<SSL>off</SSL>\n        <Encryption>TLS</Encryption>" in text


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (b"<EMailAddress>a@b.example</EMailAddress>", "a@b.example"),
        (b'<ns:emailaddress x="y">\n a@b.example </ns:emailaddress>', "a@b.example"),
        ("<EMailAddress>jörg@b.example</EMailAddress>".encode(), "jörg@b.example"),
        (b"<EMailAddress>&xxe;</EMailAddress>", None),
        (b"<EMailAddress>" + b"x" * 400 + b"</EMailAddress>", None),
        (b"<EMailAddress></EMailAddress>", None),
        (b"<EMailAddress>a@b.example", None),
        (b"no XML at all", None),
        (b"<EMailAddress" * 1000, None),
    ],
)
def test_the_address_in_outlooks_question(body: bytes, address: str | None) -> None:
    """It is searched for, so no entity is ever looked at and nothing is nested."""
    assert documents.address_in_autodiscover(body) == address


@pytest.mark.parametrize("kind", ["autoconfig", "autodiscover", "profile"])
def test_nothing_that_is_put_into_a_document_changes_it(kind: str) -> None:
    """Quotes, brackets and templates are text."""
    facts = dataclasses.replace(FACTS, name=ODD)
    if kind == "profile":
        read = plistlib.loads(profile(facts, f"{ODD}@example.org", ODD, FACTS.offered))
        assert (read["PayloadDisplayName"], read["PayloadContent"][0]["IncomingPassword"]) == (ODD, ODD)
    elif kind == "autoconfig":
        root = ElementTree.fromstring(documents.autoconfig(facts, ODD))
        assert (root[0].get("id"), root[0].findtext("displayName")) == (ODD, ODD)
    else:
        assert ODD in {one.text for one in ElementTree.fromstring(documents.autodiscover(facts, ODD)).iter()}


def test_the_policy() -> None:
    """RFC 8461, section 3.2: lines of a name and a value, one mx a line."""
    assert documents.policy(PolicyFacts(("mx.example.org", "*.example.org"), "enforce", 86_400)) == (
        b"version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.example.org\r\nmax_age: 86400\r\n"
    )


def test_the_profile() -> None:
    """One account with its password, by TLS in both directions."""
    read = plistlib.loads(profile(FACTS, ADDRESS, APP_PASSWORD, FACTS.offered))
    (account,) = read["PayloadContent"]
    assert (read["PayloadType"], account["PayloadType"]) == ("Configuration", "com.apple.mail.managed")
    assert read["PayloadUUID"] != account["PayloadUUID"]
    assert {name: value for name, value in account.items() if not name.startswith("Payload")} == {
        "EmailAccountDescription": ADDRESS,
        "EmailAccountName": "joe",
        "EmailAccountType": "EmailTypeIMAP",
        "EmailAddress": ADDRESS,
        "IncomingPassword": APP_PASSWORD,
        "IncomingMailServerAuthentication": "EmailAuthPassword",
        "IncomingMailServerHostName": "imap.example.org",
        "IncomingMailServerPortNumber": 993,
        "IncomingMailServerUseSSL": True,
        "IncomingMailServerUsername": ADDRESS,
        "OutgoingMailServerAuthentication": "EmailAuthPassword",
        "OutgoingMailServerHostName": "smtp.example.org",
        "OutgoingMailServerPortNumber": 465,
        "OutgoingMailServerUseSSL": True,
        "OutgoingMailServerUsername": ADDRESS,
        "OutgoingPasswordSameAsIncomingPassword": True,
    }


def test_a_profile_sends_only_what_its_password_may() -> None:
    """Apple requires the name of a server and how to authenticate; it is told to use no password there."""
    for facts in (FACTS, dataclasses.replace(FACTS, smtp=())):
        usable = frozenset({AccessProtocol.POP3})
        (account,) = plistlib.loads(profile(facts, ADDRESS, APP_PASSWORD, usable))["PayloadContent"]
        assert {name: value for name, value in account.items() if "Outgoing" in name} == {
            "OutgoingMailServerAuthentication": "EmailAuthNone",
            "OutgoingMailServerHostName": "pop.example.org",
        }
        assert account["IncomingMailServerHostName"] == "pop.example.org"


def test_openssl_accepts_the_signature_of_a_profile(tmp_path: Path) -> None:
    """With the certificate inside, as Apple's devices want it; one changed octet and it does not."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    content = profile(FACTS, ADDRESS, APP_PASSWORD, FACTS.offered)
    signed = read_signer(tmp_path / "c.pem", tmp_path / "k.pem").sign(content)

    def verified(data: bytes) -> subprocess.CompletedProcess[bytes]:
        command = ["openssl", "cms", "-verify", "-inform", "DER", "-binary", "-purpose", "any"]
        return subprocess.run(
            [*command, "-CAfile", str(tmp_path / "c.pem")], input=data, capture_output=True, check=False
        )

    good = verified(signed)
    assert (good.returncode, good.stdout) == (0, content)
    at = signed.index(APP_PASSWORD.encode())
    assert verified(signed[:at] + b"0" + signed[at + 1 :]).returncode != 0


def test_a_key_that_cannot_sign(tmp_path: Path) -> None:
    """Is named to the operator; the door then serves profiles without a signature."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    key = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "k.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    with pytest.raises(CannotSign, match="RSA or of an elliptic curve"):
        read_signer(tmp_path / "c.pem", tmp_path / "k.pem")
    (tmp_path / "k.pem").write_bytes(b"no key")
    with pytest.raises(CannotSign, match="PEM"):
        read_signer(tmp_path / "c.pem", tmp_path / "k.pem")


def test_what_thunderbird_for_android_scans() -> None:
    """Its format "Export for Mobile", version 1, where both servers have to be there and all is ASCII."""
    assert json.loads(documents.thunderbird_for_android(FACTS, ADDRESS, "secret") or "") == [
        1,
        [1, 1],
        [0, "imap.example.org", 993, 3, 1, ADDRESS, ADDRESS, "secret"],
        [[[0, "smtp.example.org", 465, 3, 1, ADDRESS, "secret"], [ADDRESS, "joe"]]],
    ]
    only_starttls = dataclasses.replace(FACTS, smtp=FACTS.smtp[1:])
    assert '"smtp.example.org",587,2,1' in (
        documents.thunderbird_for_android(only_starttls, ADDRESS, "secret") or ""
    )
    assert documents.thunderbird_for_android(FACTS, "jörg@example.org", "secret") is None
    assert documents.thunderbird_for_android(dataclasses.replace(FACTS, smtp=()), ADDRESS, "secret") is None


@pytest.mark.parametrize("page", ["invite", "welcome", "joined", "message"])
def test_pages_have_no_script_and_load_nothing(page: str) -> None:
    """Everything is in the one answer; the style sheet is the one that the policy allows."""
    pages = Pages(dataclasses.replace(FACTS, name=ODD), HttpsLimits())
    made = {
        "invite": lambda: pages.invite("/invite/x"),
        "welcome": lambda: pages.welcome("/welcome/x", ODD),
        "joined": lambda: pages.joined(Joined(f"{ODD}@example.org", APP_PASSWORD, None)),
        "message": lambda: pages.message(404),
    }[page]()
    text = made.body.decode()
    for word in ("<script", "<img", "<link", "src=", " style=", "onclick", "url(", "@import", "http-equiv"):
        assert word not in text, word
    assert ODD not in text
    assert "49" not in text.partition("</style>")[2].partition("<svg")[0]
    styles = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(styles.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in dict(security_headers(FACTS))["content-security-policy"]
