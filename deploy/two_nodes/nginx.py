"""nginx in front of the nodes, by the recipe of deploy/nginx, for one machine."""

from __future__ import annotations

import re
from pathlib import Path

from deploy.two_nodes.programs import Program

BINARY = Path("/usr/sbin/nginx")
MODULE = Path("/usr/lib/nginx/modules/ngx_mail_module.so")
RECIPE = Path(__file__).resolve().parents[1] / "nginx" / "mail.conf"
PORTS = {993: 93, 143: 43, 995: 95, 110: 10, 465: 65, 587: 87}
"""The ports of the recipe, and where they are beyond the base."""

AUTH_PORT = 82
"""Where it asks itself, so that either node answers."""


def is_installed() -> bool:
    """Whether the server and its mail module are there."""
    return BINARY.exists() and MODULE.exists()


def start_nginx(folder: Path, base: int, asked: list[int], certificate: Path, private_key: Path) -> Program:
    """Start it in ``folder``; at the ports ``asked`` nodes say where accounts are. Raises OSError."""
    folder.mkdir(mode=0o700)
    config = folder / "nginx.conf"
    config.write_text(
        f"load_module {MODULE};\ndaemon off;\nmaster_process off;\npid {folder}/pid;\n"
        f"error_log {folder}/error.log error;\nevents {{ worker_connections 256; }}\n"
        f"{_http(folder, base, asked)}{_mail(folder, base, certificate, private_key)}",
        "utf-8",
    )
    return Program("nginx", [BINARY, "-p", folder, "-c", config, "-e", folder / "error.log"], folder)


def _mail(folder: Path, base: int, certificate: Path, private_key: Path) -> str:
    text = re.sub(r"\n *listen \[::\]:[^\n]*", "", RECIPE.read_text("utf-8"))
    text = re.sub(r"listen (\d+)", lambda found: f"listen 127.0.0.1:{base + PORTS[int(found[1])]}", text)
    ours = {
        "/etc/sealbox/tls/certificate.pem": str(certificate),
        "/etc/sealbox/tls/private-key.pem": str(private_key),
        "/var/log/nginx": str(folder),
        "http://127.0.0.1:9143/": f"http://127.0.0.1:{base + AUTH_PORT}/",
    }
    for old, new in ours.items():
        text = text.replace(old, new)
    return text


def _http(folder: Path, base: int, asked: list[int]) -> str:
    """Between the two: whichever node is there answers, and gets no password."""
    nodes = "".join(f"    server 127.0.0.1:{port} max_fails=1 fail_timeout=2s;\n" for port in asked)
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"  {name}_temp_path {folder}/{name};\n" for name in names)
    return (
        f"http {{\n  access_log off;\n{places}  upstream nodes {{\n{nodes}  }}\n"
        f"  server {{\n    listen 127.0.0.1:{base + AUTH_PORT};\n    proxy_connect_timeout 3s;\n"
        '    location / { proxy_set_header Auth-Pass ""; proxy_pass http://nodes; }\n  }\n}\n'
    )
