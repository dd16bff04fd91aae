"""Debian's Postfix in a folder of its own, on 127.0.0.1 alone, with the recipe of deploy/postfix.

Only root can start it: its parts run as the user ``postfix``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

RECIPE = Path(__file__).resolve().parents[1] / "deploy" / "postfix"
BEHIND_NGINX = RECIPE.with_name("nginx")
BINARY = "/usr/sbin/postfix"
DEBIANS = Path("/usr/share/postfix/master.cf.dist")
GROUP = "postfix"


def missing() -> str | None:
    """Why it cannot be started here; None if it can."""
    if not Path(BINARY).exists():
        return "Postfix is not installed (Debian: apt install postfix)"
    return None if os.geteuid() == 0 else "only root can start Postfix"


@dataclass(frozen=True, slots=True)
class Setup:
    """Where Postfix listens, and where Sealbox does. ``domain`` is the one that it takes mail for."""

    smtp: int
    submissions: int
    submission: int
    sockets: Path
    domain: str
    certificate: Path
    private_key: Path
    proxied: int = 0
    """Where it listens for nginx, with the recipe of deploy/nginx; 0 for nowhere."""


def entries(text: str) -> dict[tuple[str, str], str]:
    """The services of a master.cf, by name and type; each with the lines that continue it."""
    found: dict[tuple[str, str], str] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace():
            found[next(reversed(found))] += f"\n{line}"
        else:
            name, kind = line.split()[:2]
            found[name, kind] = line
    return found


def _services(setup: Setup) -> str:
    services = entries(DEBIANS.read_text()) | entries((RECIPE / "master.cf").read_text())
    for name in ("smtp", "submissions", "submission"):
        line = services.pop((name, "inet"))
        services[name, "inet"] = line.replace(name, f"127.0.0.1:{getattr(setup, name)}", 1)
    if setup.proxied:
        recipe = (BEHIND_NGINX / "master.cf").read_text()
        assert "192.0.2.1:1587" in recipe
        services |= entries(recipe.replace("192.0.2.1:1587", f"127.0.0.1:{setup.proxied}"))
    return "\n".join(services.values()) + "\n"


def start(folder: Path, setup: Setup, **settings: str) -> subprocess.Popen[bytes]:
    """Start Postfix in the foreground as our own child. ``settings`` are those of its main.cf."""
    for name in ("config", "queue", "data"):
        (folder / name).mkdir(parents=True)
    shutil.chown(folder / "data", GROUP)
    folder.chmod(0o755)
    config = folder / "config"
    (config / "main.cf").write_text((RECIPE / "main.cf").read_text())
    (config / "master.cf").write_text(_services(setup))
    ours = {
        "sealbox": setup.sockets,
        "myhostname": f"mail.{setup.domain}",
        "virtual_mailbox_domains": setup.domain,
        "smtpd_tls_cert_file": setup.certificate,
        "smtpd_tls_key_file": setup.private_key,
        "queue_directory": folder / "queue",
        "data_directory": folder / "data",
        "maillog_file": folder / "log",
        "maillog_file_prefixes": folder,
        "compatibility_level": "3.6",
        "inet_interfaces": "127.0.0.1",
        "inet_protocols": "ipv4",
        "alias_maps": "",
        "mynetworks": "127.0.0.99/32",
        **settings,
    }
    subprocess.run(
        ["postconf", "-c", str(config), "-e", *(f"{name}={value}" for name, value in ours.items())],
        check=True,
    )
    return subprocess.Popen([BINARY, "-c", str(config), "start-fg"], stdin=subprocess.DEVNULL, umask=0o022)


def stop(folder: Path) -> None:
    """End all of it; the process that ``start`` gave ends with it. A signal would end that one alone."""
    subprocess.run([BINARY, "-c", str(folder / "config"), "stop"], check=True)
