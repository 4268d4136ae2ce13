"""The whole daemon behind a proxy: what scripts and the access log are told of the client."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

SETTINGS = """
[server]
fronts = 1
runtime = "{dir}/run"

[listen]
http = [
  "127.0.0.1:{plain}",
  {{ address = "127.0.0.1:{elsewhere}", trust = ["192.0.2.1", "10.0.0.0/8"] }},
  {{ address = "127.0.0.1:{trusting}", trust = ["127.0.0.1", "10.0.0.0/8"] }},
  {{ address = "127.0.0.1:{standard}", trust = ["127.0.0.1"], forwarded = "forwarded" }},
  {{ address = "127.0.0.1:{proxied}", allow = ["127.0.0.1"], proxy_protocol = true }},
]

[log]
access = "{dir}/access.log"
error = "{dir}/error.log"

[[site]]
root = "{dir}/htdocs"

  [[site.route]]
  match = "*.cgi"
  cgi = true

[[site]]
hosts = ["example.org"]
root = "{dir}/example"

  [[site.route]]
  match = "*.cgi"
  cgi = true
"""
SCRIPT = """#!/bin/sh
printf 'Content-Type: text/plain\\n\\n'
printf '%s ' {site} "$REMOTE_ADDR" "${{REMOTE_PORT:--}}" "$REQUEST_SCHEME" "${{HTTPS:--}}" \\
  "$SERVER_NAME" "$SERVER_PORT" "$HTTP_HOST"
"""
FORGED = (
    "X-Forwarded-For: 203.0.113.9, 192.0.2.7, 10.0.0.2\r\n"
    "X-Forwarded-Proto: https\r\nX-Forwarded-Host: example.org\r\n"
    "X-Real-IP: 203.0.113.1\r\n"
    "Forwarded: for=203.0.113.9, for=192.0.2.8;proto=https;host=example.org\r\n"
)
NAMES = ("plain", "elsewhere", "trusting", "standard", "proxied")


@dataclass
class Behind:
    """A daemon that listens in several ways."""

    ports: dict[str, int]
    directory: Path
    wait: Callable[..., None]
    answers: int = 0

    def ask(self, name: str, fields: str = FORGED, before: bytes = b"") -> list[str]:
        """Return what the script behind a listener says; nothing if the connection is closed."""
        head = f"GET /who.cgi HTTP/1.1\r\nHost: inner\r\nConnection: close\r\n{fields}\r\n"
        with socket.create_connection(("127.0.0.1", self.ports[name]), 15) as client:
            client.sendall(before + head.encode())
            data = b""
            try:
                while piece := client.recv(65536):
                    data += piece
            except ConnectionResetError:
                return []
        if not data:
            return []
        assert data.startswith(b"HTTP/1.1 200 "), data
        self.answers += 1
        *_, line = (line for line in data.decode().splitlines() if " inner" in line)
        return line.split()

    def logged(self) -> list[str]:
        """Return the clients in the access log, each once."""
        log = self.directory / "access.log"
        self.wait(lambda: log.read_text().count("\n") >= self.answers, "the access log")
        return list(dict.fromkeys(line.split(" ")[0] for line in log.read_text().splitlines()))


@pytest.fixture
def behind(tmp_path: Path, wait: Callable[..., None]) -> Iterator[Behind]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in NAMES]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = {name: each.getsockname()[1] for name, each in zip(NAMES, sockets, strict=True)}
    for site in ("htdocs", "example"):
        (tmp_path / site).mkdir()
        script = tmp_path / site / "who.cgi"
        script.write_text(SCRIPT.format(site=site))
        script.chmod(0o755)
    file = tmp_path / "gateway.toml"
    file.write_text(SETTINGS.format(dir=tmp_path, **ports))
    command = [sys.executable, "-m", "gateway", "run", "-c", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        found = Behind(ports, tmp_path, wait)

        def serves() -> bool:
            assert process.poll() is None, "the daemon ended"
            try:
                return bool(found.ask("plain"))
            except ConnectionRefusedError:
                return False

        try:
            wait(serves, "the daemon serves")
            yield found
        finally:
            process.terminate()
            process.wait(30)


def test_untrusted_x_forwarded_for_never_changes_address_scheme_or_host(behind: Behind) -> None:
    for name in ("plain", "elsewhere"):
        site, address, port, *words = behind.ask(name)
        assert (site, address) == ("htdocs", "127.0.0.1")
        assert port.isdigit()
        assert words == ["http", "-", "inner", str(behind.ports[name]), "inner"]
    assert behind.logged() == ["127.0.0.1"]


def test_what_a_trusted_proxy_says_reaches_scripts_sites_and_log(behind: Behind) -> None:
    rest = ["-", "https", "on", "example.org", "443", "inner"]
    assert behind.ask("trusting") == ["example", "192.0.2.7", *rest]
    assert behind.ask("standard") == ["example", "192.0.2.8", *rest]
    assert behind.logged() == ["127.0.0.1", "192.0.2.7", "192.0.2.8"]


def test_proxy_protocol_names_the_client_and_fields_do_not(behind: Behind) -> None:
    line = b"PROXY TCP4 192.0.2.77 198.51.100.9 5678 8443\r\n"
    assert behind.ask("proxied", before=line) == [
        "htdocs", "192.0.2.77", "5678", "http", "-", "inner", "8443", "inner"
    ]  # fmt: skip
    assert behind.logged()[-1] == "192.0.2.77"


def test_connection_without_the_header_it_must_have_is_refused_in_the_log(
    behind: Behind, wait: Callable[..., None]
) -> None:
    assert behind.ask("proxied") == []
    log = behind.directory / "error.log"
    wait(lambda: "breaks the protocol (proxy_protocol)" in log.read_text(), "a line in the log")
    assert behind.logged() == ["127.0.0.1"]
