"""A real nginx with deploy/nginx/sketchy.conf, on ports and files of the test's own."""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sketchy_orchestration.local import processes

FOLDER = Path(__file__).parents[3] / "deploy" / "nginx"
GAME, OPERATORS = "play.example.com", "dagster.example.com"
# What Debian's nginx.conf says before it reads conf.d: nothing of it may be said twice in one place.
_AROUND = "ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


@dataclass
class Proxy:
    """nginx at work."""

    port: int
    plain_port: int
    client: httpx.Client

    def ask(self, name: str, path: str, method: str = "GET", **more: object) -> httpx.Response:
        """One request over TLS to this name."""
        headers = {"Host": name, **more.pop("headers", {})}  # type: ignore[dict-item]
        return self.client.request(
            method,
            f"https://127.0.0.1:{self.port}{path}",
            headers=headers,
            extensions={"sni_hostname": name},
            **more,  # type: ignore[arg-type]
        )


def write_certificate(folder: Path, *names: str) -> Path:
    """A self-signed certificate for these names, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = folder / "fullchain.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "privkey.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return chain


def write_operator(folder: Path, name: str, password: str) -> None:
    """The file that htpasswd makes, with one operator in it."""
    salt = os.urandom(8)
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    line = f"{name}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n"
    (folder / "operators").write_text(line, encoding="utf-8")
    (folder / "operators").chmod(0o644)


@contextmanager
def proxy(folder: Path, *, gateway_port: int, dagster_port: int) -> Iterator[Proxy]:
    """nginx in front of these two, ready."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    folder.chmod(0o755)
    chain = write_certificate(folder, GAME, OPERATORS)
    write_operator(folder, "ada", "a password")
    port, plain = processes.free_port(), processes.free_port()
    text = "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("upstreams.conf", "sketchy.conf"))
    text = re.sub(r"^ *listen \[::\].*\n", "", text, flags=re.MULTILINE)
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}").replace(
        "listen 80", f"listen 127.0.0.1:{plain}"
    )
    text = text.replace("/etc/nginx/sketchy", str(folder))
    text = text.replace("127.0.0.1:8787", f"127.0.0.1:{gateway_port}")
    text = text.replace("127.0.0.1:3000", f"127.0.0.1:{dagster_port}")
    temporary = "".join(
        f"{what}_temp_path {folder}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;"
        f"events {{}} http {{ access_log {folder}/access.log; {temporary}\n{_AROUND}\n{text}\n}}\n",
        encoding="utf-8",
    )
    words = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*words, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "warn" not in checked.stderr, checked.stderr
    # As its own process: one that outlives the test would keep the ports.
    running = processes.start(words, env=dict(os.environ), log=folder / "nginx.log")
    try:
        assert processes.wait_until(lambda: not processes.is_free(port), seconds=20), checked.stderr
        trusted = ssl.create_default_context(cafile=str(chain))
        with httpx.Client(verify=trusted, trust_env=False, timeout=20) as client:
            yield Proxy(port, plain, client)
    finally:
        processes.stop(running)
