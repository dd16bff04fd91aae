"""What belongs into the DNS: a zone that BIND accepts, and that a name server with it fulfils."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest
from click.testing import CliRunner

from deploy.cli.main import main
from deploy.first_run import make_certificate

pytestmark = pytest.mark.integration

DOMAIN = "example.org"
DKIM = "v=DKIM1; h=sha256; k=rsa; p=" + "A" * 390
KEY_FILE = (
    f'mail._domainkey\tIN\tTXT\t( "{DKIM[:28]}"\n\t  "{DKIM[28:250]}"\n\t  "{DKIM[250:]}" )  ; ----- key\n'
)
FRAME = f"""$ORIGIN {DOMAIN}.
@ 3600 IN SOA ns hostmaster 1 3600 600 604800 60
@ 3600 IN NS ns
ns 3600 IN A 192.0.2.53
mail 3600 IN A 192.0.2.1
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data root with the domain, its settings, and the record of a key."""
    make_certificate(tmp_path / "c.pem", tmp_path / "k.pem")
    (tmp_path / "mail.txt").write_text(KEY_FILE, "utf-8")
    root = tmp_path / "data"
    assert CliRunner().invoke(main, ["domain", "add", DOMAIN, "--data", str(root)]).exit_code == 0
    (root / "sealbox.toml").write_text(
        f'data = "{root}"\nhostname = "mail.{DOMAIN}"\n[listen]\nhttps = ["127.0.0.1:8443"]\n'
        f'[tls]\ncertificate = "{tmp_path}/c.pem"\nprivate_key = "{tmp_path}/k.pem"\n'
        f'[dns]\ndkim_record = "{tmp_path}/mail.txt"\n',
        "utf-8",
    )
    return root


def shown(data: Path, *more: str) -> tuple[int, str, str]:
    """Exit code and output of ``sealbox domain show``."""
    result = CliRunner().invoke(main, ["domain", "show", DOMAIN, "--data", str(data), *more])
    return result.exit_code, result.stdout, result.stderr


@contextmanager
def name_server(text: str) -> Iterator[str]:
    """A name server on loopback that has this zone; its address."""
    zone = dns.zone.from_text(text, origin=f"{DOMAIN}.", relativize=False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        serving = threading.Thread(target=_serve, args=(bound, zone))
        serving.start()
        try:
            yield f"127.0.0.1:{bound.getsockname()[1]}"
        finally:
            bound.sendto(b"", bound.getsockname())
            serving.join()


def _serve(bound: socket.socket, zone: dns.zone.Zone) -> None:
    while True:
        data, peer = bound.recvfrom(4096)
        if not data:
            return
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA
        asked = question.question[0]
        for kind in (asked.rdtype, dns.rdatatype.CNAME):
            found = zone.get_rrset(asked.name, kind) if asked.name.is_subdomain(zone.origin) else None
            if found is not None and found not in answer.answer:
                answer.answer.append(found)
                if kind == dns.rdatatype.CNAME and asked.rdtype != kind:
                    there = zone.get_rrset(found[0].target, asked.rdtype)
                    answer.answer += [there] if there is not None else []
        if zone.get_node(asked.name) is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        bound.sendto(answer.to_wire(), peer)


def test_the_zone_has_everything(data: Path) -> None:
    """Record by record."""
    code, out, err = shown(data)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if not line.startswith("_mta-sts")]
    assert lines == [
        "; example.org: mail by mail.example.org",
        "$TTL 3600",
        "example.org. IN MX 10 mail.example.org.",
        "_imaps._tcp.example.org. IN SRV 0 1 993 mail.example.org.",
        "_pop3s._tcp.example.org. IN SRV 0 1 995 mail.example.org.",
        "_submissions._tcp.example.org. IN SRV 0 1 465 mail.example.org.",
        "_imap._tcp.example.org. IN SRV 0 0 0 .",
        "_pop3._tcp.example.org. IN SRV 0 0 0 .",
        "_submission._tcp.example.org. IN SRV 0 1 587 mail.example.org.",
        "autoconfig.example.org. IN CNAME mail.example.org.",
        "autodiscover.example.org. IN CNAME mail.example.org.",
        "mta-sts.example.org. IN CNAME mail.example.org.",
        "_autodiscover._tcp.example.org. IN SRV 0 1 443 mail.example.org.",
        'example.org. IN TXT "v=spf1 mx -all"',
        f'mail._domainkey.example.org. IN TXT "{DKIM[:255]}" "{DKIM[255:]}"',
        '_dmarc.example.org. IN TXT "v=DMARC1; p=quarantine"',
        '_smtp._tls.example.org. IN TXT "v=TLSRPTv1; rua=mailto:postmaster@example.org"',
    ]
    (policy,) = [line for line in out.splitlines() if line.startswith("_mta-sts")]
    assert policy.startswith('_mta-sts.example.org. IN TXT "v=STSv1; id=')


@pytest.mark.skipif(shutil.which("named-checkzone") is None, reason="bind9-utils is not installed")
def test_bind_accepts_the_zone(data: Path, tmp_path: Path) -> None:
    """Without a warning."""
    (tmp_path / "zone").write_text(FRAME + shown(data)[1], "utf-8")
    checked = subprocess.run(
        [
            "named-checkzone",
            "-k",
            "fail",
            "-n",
            "fail",
            "-m",
            "fail",
            "-S",
            "fail",
            DOMAIN,
            str(tmp_path / "zone"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.splitlines()[-1] == "OK"
    assert "warning" not in checked.stdout


def test_a_name_server_with_the_zone_fulfils_it(data: Path) -> None:
    """Every record is ok."""
    out = shown(data)[1]
    with name_server(FRAME + out) as address:
        code, checked, err = shown(data, "--check", "--resolver", address)
    assert (code, err) == (0, "")
    assert {line.partition(" ")[0] for line in checked.splitlines()} == {"ok"}
    assert len(checked.splitlines()) == sum(" IN " in line for line in out.splitlines())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: _without(text, " MX "), "missing  example.org. MX 10 mail.example.org."),
        (
            lambda text: text.replace("MX 10 mail", "MX 10 old"),
            "wrong    example.org. MX 10 mail.example.org.; there is 10 old.example.org.",
        ),
        (
            lambda text: text + "example.org. IN MX 20 old.example.org.\n",
            "wrong    example.org. MX 10 mail.example.org.; there is 20 old.example.org.",
        ),
        (
            lambda text: text.replace("SRV 0 1 993", "SRV 0 1 994"),
            "wrong    _imaps._tcp.example.org. SRV 0 1 993 mail.example.org.;"
            " there is 0 1 994 mail.example.org.",
        ),
        (
            lambda text: text.replace(
                "_imap._tcp.example.org. IN SRV 0 0 0 .", "_imap._tcp IN SRV 0 1 143 mail"
            ),
            "wrong    _imap._tcp.example.org. SRV 0 0 0 .; there is 0 1 143 mail.example.org.",
        ),
        (
            lambda text: _without(text, "mta-sts.example.org. IN CNAME"),
            "missing  mta-sts.example.org. CNAME mail.example.org.",
        ),
        (
            lambda text: text.replace("autoconfig.example.org. IN CNAME mail", "autoconfig IN CNAME ns"),
            "wrong    autoconfig.example.org. CNAME mail.example.org.; there is 192.0.2.53",
        ),
        (
            lambda text: text.replace("mx -all", "mx ~all"),
            'wrong    example.org. TXT "v=spf1 mx -all"; there is v=spf1 mx ~all',
        ),
        (
            lambda text: text + 'example.org. IN TXT "v=spf1 -all"\n',
            'wrong    example.org. TXT "v=spf1 mx -all"; there is v=spf1 -all, v=spf1 mx -all',
        ),
        (lambda text: _without(text, "_dmarc"), 'missing  _dmarc.example.org. TXT "v=DMARC1; p=quarantine"'),
    ],
)
def test_what_is_missing_or_wrong_is_named(data: Path, change: Callable[[str], str], said: str) -> None:
    """One line a record; the exit code tells timers."""
    with name_server(change(FRAME + shown(data)[1])) as address:
        code, checked, _err = shown(data, "--check", "--resolver", address)
    assert code == 5
    bad = [line for line in checked.splitlines() if not line.startswith("ok ")]
    assert bad == [said]


def _without(text: str, words: str) -> str:
    kept = [line for line in text.splitlines() if words not in line]
    assert len(kept) == len(text.splitlines()) - 1
    return "\n".join(kept) + "\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(
            "autoconfig.example.org. IN CNAME mail.example.org.", "autoconfig IN A 192.0.2.1"
        ),
        lambda text: _without(text, "_pop3._tcp"),
        lambda text: text.replace("v=DMARC1; p=quarantine", "v=DMARC1;p=quarantine;"),
        lambda text: text + 'example.org. IN TXT "google-site-verification=x"\n',
        lambda text: text.replace("; k=rsa; p=", ";k=rsa;p="),
    ],
)
def test_what_means_the_same_is_ok(data: Path, change: Callable[[str], str]) -> None:
    """Addresses in place of an alias, a service that is not there at all, spaces, other texts."""
    before = FRAME + shown(data)[1]
    assert change(before) != before
    with name_server(change(before)) as address:
        assert shown(data, "--check", "--resolver", address)[:1] == (0,)


def test_a_key_that_is_not_known_is_said_so(data: Path) -> None:
    """Its record is a comment, and is not compared."""
    config = data / "sealbox.toml"
    text = config.read_text("utf-8")
    config.write_text(text.partition("[dns]")[0], "utf-8")
    out = shown(data)[1]
    assert '\n; mail._domainkey.example.org. IN TXT "v=DKIM1; k=rsa; p=..."\n' in out
    assert "set dkim_record in [dns]" in out
    with name_server(FRAME + out) as address:
        code, checked, _err = shown(data, "--check", "--resolver", address)
    assert code == 0
    assert "unknown  mail._domainkey TXT: set dkim_record in [dns] to compare it" in checked
    config.write_text(text.replace("mail.txt", "nothing.txt"), "utf-8")
    code, _out, err = shown(data)
    assert code == 2
    assert err.startswith("sealbox: there is no record of a DKIM key in ")


def test_without_a_door_nothing_leads_to_it(data: Path) -> None:
    """And it is said what is left out."""
    config = data / "sealbox.toml"
    config.write_text(
        config.read_text("utf-8").replace('https = ["127.0.0.1:8443"]', 'imap = ["0.0.0.0:143"]'), "utf-8"
    )
    out = shown(data)[1]
    assert "CNAME" not in out
    assert "STSv1" not in out
    assert "; autoconfig, autodiscover and MTA-STS need the HTTPS door: set https in [listen]\n" in out
    assert "_imap._tcp.example.org. IN SRV 0 1 143 mail.example.org.\n" in out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["show", "elsewhere.example"],
            3,
            "sealbox: there is no such domain: add it with 'sealbox domain add'\n",
        ),
        (
            ["show", DOMAIN, "--check", "--resolver", "ns.example"],
            2,
            "sealbox: --resolver is an IP address, perhaps with :PORT\n",
        ),
        (
            ["show", "not a domain"],
            3,
            "sealbox: that is not a usable address, domain or label: check the spelling\n",
        ),
    ],
)
def test_mistakes(data: Path, arguments: list[str], code: int, said: str) -> None:
    """In one sentence."""
    result: Any = CliRunner().invoke(main, ["domain", *arguments, "--data", str(data)])
    assert (result.exit_code, result.stderr) == (code, said)


def test_a_resolver_that_does_not_answer(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for a missing record."""
    monkeypatch.setattr("deploy.dns_check.LIFETIME_S", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, out, err = shown(data, "--check", "--resolver", address)
    assert (code, out) == (5, "")
    assert err == "sealbox: the resolver did not answer (LifetimeTimeout): try again, or --resolver\n"
