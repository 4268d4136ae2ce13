"""The whole daemon as root: a site's scripts run as its user, executed and warm."""

import http.client
import os
from typing import Any

import pytest

SITE = """
[[site]]
hosts = ["{name}.test"]
user = "{name}"
root = "{root}"

  [[site.route]]
  match = "*.cgi"
  cgi = true
  start = "{start}"
"""
WHO = """\
import os
print("Content-Type: text/plain\\n")
print(os.getresuid(), os.getresgid(), sorted(os.getgroups()))
try:
    os.setuid(0)
except PermissionError:
    print("no way back")
"""


def get(port: int, host: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("start", ["exec", "warm"])
def test_each_sites_scripts_run_as_its_user(
    daemon: Any, tenant: Any, other: Any, start: str, open_python: str
) -> None:
    sites = ""
    for account in (tenant, other):
        root = account.directory("public_html")
        account.script("public_html/who.cgi", f"#!{open_python}\n{WHO}")
        sites += SITE.format(name=account.name, root=root, start=start)
    running = daemon(sites)
    for _ in range(2):
        for account in (tenant, other):
            status, said = get(running.port, f"{account.name}.test", "/who.cgi")
            who = f"{(account.uid,) * 3} {(account.gid,) * 3} [{account.gid}]"
            assert (status, said) == (200, f"{who}\nno way back\n"), running.log()


def test_script_of_another_user_that_its_site_may_not_read_is_not_sent_either(
    daemon: Any, tenant: Any, other: Any
) -> None:
    root = tenant.directory("public_html")
    os.link(other.script("secret.cgi", f"#!/bin/sh\n{WHO}", 0o700), root / "x.cgi")
    running = daemon(SITE.format(name=tenant.name, root=root, start="exec"))
    status, said = get(running.port, f"{tenant.name}.test", "/x.cgi")
    assert status == 403
    assert "print" not in said
