"""`.gateway.toml`: what a tenant decides for itself, through the whole daemon, as real accounts."""

import base64
import http.client
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become tenants")

Wait = Callable[..., None]

SECRET = "bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"  # of "secret"
ENVIRONMENT = "#!/bin/sh\necho Content-Type: text/plain\necho\nenv\n"


@dataclass
class Tenant:
    """An account with pages."""

    name: str
    uid: int
    gid: int
    pages: Path

    def put(self, name: str, text: str | bytes, mode: int = 0o644) -> Path:
        """Write a file of the tenant's, complete from the start."""
        path = self.pages / name
        made = [each for each in (path.parent, *path.parents) if not each.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(text if isinstance(text, bytes) else text.encode())
        fresh.chmod(mode)
        os.chown(fresh, self.uid, self.gid)
        for each in made:
            os.chown(each, self.uid, self.gid)
        fresh.rename(path)
        return path

    def settings(self, text: str | bytes) -> Path:
        return self.put(".gateway.toml", text)


@pytest.fixture(scope="module")
def accounts() -> Iterator[tuple[Tenant, Tenant]]:
    """Two accounts, and a directory for their pages that everybody can reach."""
    base = Path(tempfile.mkdtemp(prefix="gateway-own-"))
    base.chmod(0o755)
    made = []
    for _ in range(2):
        name = f"gwo{secrets.token_hex(4)}"
        subprocess.run(
            ["useradd", "-M", "-U", "-s", "/bin/sh", "-d", str(base / name), name], check=True
        )
        entry = pwd.getpwnam(name)
        made.append(Tenant(name, entry.pw_uid, entry.pw_gid, base / name / "public_html"))
    yield made[0], made[1]
    for tenant in made:
        subprocess.run(["userdel", tenant.name], check=True)
    shutil.rmtree(base)


class House:
    """A daemon with these tenants."""

    def __init__(self, daemon: Any, base: Path) -> None:
        self.daemon = daemon
        self.base = base

    def ask(
        self, path: str, headers: Mapping[str, str] = {}, method: str = "GET", body: bytes = b""
    ) -> tuple[int, Mapping[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=20)
        try:
            connection.request(method, path, body=body or None, headers=dict(headers))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, response.read().decode("latin-1")
        finally:
            connection.close()

    def status(self, path: str, headers: Mapping[str, str] = {}) -> int:
        return self.ask(path, headers)[0]

    def log(self) -> str:
        text: str = self.daemon.log()
        return text

    def keepers(self) -> list[str]:
        """Return the accounts whose keeper runs."""
        found = []
        for pid in self.daemon.children():
            uid = os.stat(f"/proc/{pid}").st_uid
            if uid >= 1000:
                found.append(pwd.getpwuid(uid).pw_name)
        return found


@pytest.fixture
def house(
    daemon: Callable[..., Any], accounts: tuple[Tenant, Tenant], tmp_path: Path
) -> Iterator[House]:
    base = accounts[0].pages.parents[1]
    for tenant in accounts:
        tenant.pages.mkdir(parents=True)
        for directory in (tenant.pages, tenant.pages.parent):
            os.chown(directory, tenant.uid, tenant.gid)
        tenant.put("index.html", f"pages of {tenant.name}")
    tmp_path.chmod(0o755)
    sites = f'[tenants]\nuserdir = "{base}/*/public_html"\nhosts = "{base}/{{host}}/htdocs"\n'
    started = daemon(sites, server='user = "www-data"\n')
    yield House(started, base)
    for tenant in accounts:
        shutil.rmtree(tenant.pages.parent)


@pytest.fixture
def alice(accounts: tuple[Tenant, Tenant], house: House) -> Tenant:
    return accounts[0]


@pytest.fixture
def other(accounts: tuple[Tenant, Tenant], house: House) -> Tenant:
    return accounts[1]


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def test_without_such_a_file_no_keeper_is_asked(house: House, alice: Tenant) -> None:
    assert house.ask(f"/~{alice.name}/")[::2] == (200, f"pages of {alice.name}")
    assert house.keepers() == []


def test_index_redirects_ages_and_error_pages_are_the_tenants(house: House, alice: Tenant) -> None:
    alice.settings(
        'index = ["start.html"]\n'
        "[redirects]\n"
        '"/old.html" = "/new.html"\n'
        '"/blog/*" = { to = "https://blog.example.org/*", status = 301 }\n'
        '"/moved/*" = "/there/*"\n'
        "[expires]\n"
        '"*.css" = "7 days"\n'
        "[error_pages]\n"
        '404 = "/errors/none.html"\n'
        '403 = "/missing.html"\n'
    )
    alice.put("start.html", "start")
    alice.put("style.css", "p{}")
    alice.put("errors/none.html", "nothing here")
    alice.put("empty/x", "x")
    at = f"/~{alice.name}"
    assert house.ask(f"{at}/")[::2] == (200, "start")
    status, fields, _ = house.ask(f"{at}/old.html?a=b")
    assert (status, fields["location"]) == (302, f"{at}/new.html?a=b")
    status, fields, _ = house.ask(f"{at}//blog/a%20b/%C3%A4")
    assert (status, fields["location"]) == (301, "https://blog.example.org/a%20b/%C3%A4")
    status, fields, _ = house.ask(f"{at}/moved//evil.example/")
    assert (status, fields["location"]) == (302, f"{at}/there/evil.example/")
    status, fields, body = house.ask(f"{at}/style.css")
    assert (status, fields["cache-control"], body) == (200, "max-age=604800", "p{}")
    assert "expires" in fields
    status, fields, _ = house.ask(f"{at}/style.css", {"If-None-Match": fields["etag"]})
    assert (status, fields["cache-control"]) == (304, "max-age=604800")
    assert "cache-control" not in house.ask(f"{at}/start.html")[1]
    for method, content in (("GET", "nothing here"), ("HEAD", "")):
        status, fields, body = house.ask(f"{at}/none", method=method)
        assert (status, body) == (404, content)
        assert fields["content-length"] == "12"
        assert "etag" not in fields
    status, _, body = house.ask(f"{at}/empty/")
    assert status == 403
    assert "403 Forbidden" in body  # its page is not there, so it is ours


def test_scripts_start_as_the_tenant_says(house: House, alice: Tenant) -> None:
    alice.settings(
        'start = "exec"\n'
        "[environment]\n"
        'GREETING = "hello"\nREQUEST_METHOD = "NONE"\nQUERY_STRING = "evil"\n'
        "[interpreters]\n"
        '".cgi" = "/bin/sh"\n'
    )
    alice.put("plain.cgi", ENVIRONMENT)
    status, _, body = house.ask(f"/~{alice.name}/plain.cgi")
    variables = dict(line.partition("=")[::2] for line in body.splitlines())
    assert status == 200
    assert variables["GREETING"] == "hello"
    assert variables["REQUEST_METHOD"] == "GET"
    assert variables["QUERY_STRING"] == ""


def test_host_of_a_tenant_has_settings_too(house: House, alice: Tenant) -> None:
    host = f"{alice.name}.example"
    pages = house.base / host / "htdocs"
    pages.mkdir(parents=True)
    os.chown(pages, alice.uid, alice.gid)
    site = Tenant(alice.name, alice.uid, alice.gid, pages)
    site.settings('redirects = { "/a" = "/b" }\nauth = { path = "/p" }\nindex = ["x"]\n')
    site.put("x", "start")
    site.put("p/y", "y")
    site.put(".htpasswd", SECRET)
    named = {"Host": host}
    assert house.ask("/", named)[::2] == (200, "start")
    assert house.ask("/a", named)[1]["location"] == "/b"
    for path in ("/p", "/p/y", "//p/y", "/%70/y", f"/~{alice.name}/../p/y"):
        assert house.status(path, named) in (401, 404)
    assert house.status("/p/y", named) == 401
    assert house.ask("/p/y", named | basic("bob", "secret"))[::2] == (200, "y")
    assert house.status("*", named) == 400
    shutil.rmtree(pages.parent)


def test_changes_show_without_a_restart_and_so_does_their_end(
    house: House, alice: Tenant, wait: Wait
) -> None:
    at = f"/~{alice.name}/a"
    alice.put("a", "a")
    assert house.status(at) == 200
    alice.settings('redirects = { "/a" = "/b" }\n')
    wait(lambda: house.status(at) == 302, "the redirect is there")
    alice.settings('redirects = { "/a" = { to = "/c", status = 308 } }\n')
    wait(lambda: house.status(at) == 308, "the redirect is another")
    (alice.pages / ".gateway.toml").unlink()
    wait(lambda: house.status(at) == 200, "the redirect is gone")


def test_mistake_is_explained_and_stops_this_tenant_alone(
    house: House, alice: Tenant, other: Tenant, wait: Wait
) -> None:
    alice.settings('[[auth]]\npath = "/private/"\nfiel = ".htpasswd"\n')
    alice.put("private/x", "x")
    alice.put("x.cgi", ENVIRONMENT, 0o755)
    for path in ("/", "/private/x", "/x.cgi", "/none"):
        assert house.status(f"/~{alice.name}{path}") == 500
    assert house.status(f"/~{other.name}/") == 200
    said = 'fiel: unknown key; did you mean "file"?'
    assert f"~{alice.name}: {alice.pages}/.gateway.toml:3: [[auth]] #1: {said}" in house.log()
    alice.settings('auth = { path = "/private/" }\n')
    wait(lambda: house.status(f"/~{alice.name}/") == 200, "it is served again")
    assert house.status(f"/~{alice.name}/private/x") == 401


@pytest.mark.parametrize("key", ["memory", "processes", "concurrency", "sandbox", "request_body"])
def test_limits_are_not_the_tenants(house: House, alice: Tenant, key: str) -> None:
    alice.settings(f"{key} = 1\n")
    assert house.status(f"/~{alice.name}/") == 500
    assert f"{key}: a tenant cannot set this" in house.log()


def _large(tenant: Tenant, other: Tenant) -> str:
    tenant.settings(b"# " + b"x" * (10 << 20))
    return "has more than 64 KiB"


def _deep(tenant: Tenant, other: Tenant) -> str:
    # No line may be long enough for this; the parser must survive it all the same.
    tenant.settings("index = " + "[" * 900 + "\n" + "[" * 900)
    return "nested too deeply"


def _dotted(tenant: Tenant, other: Tenant) -> str:
    tenant.settings("a." * 30_000 + "a = 1")
    return "the line has more than 1000 characters"


def _fifo(tenant: Tenant, other: Tenant) -> str:
    os.mkfifo(tenant.pages / ".gateway.toml")
    os.chown(tenant.pages / ".gateway.toml", tenant.uid, tenant.gid)
    return "not a regular file"


def _directory(tenant: Tenant, other: Tenant) -> str:
    (tenant.pages / ".gateway.toml").mkdir()
    os.chown(tenant.pages / ".gateway.toml", tenant.uid, tenant.gid)
    return "not a regular file"


def _shadow(tenant: Tenant, other: Tenant) -> str:
    (tenant.pages / ".gateway.toml").symlink_to("/etc/shadow")
    os.chown(tenant.pages / ".gateway.toml", tenant.uid, tenant.gid, follow_symlinks=False)
    return "it is a link"


def _theirs(tenant: Tenant, other: Tenant) -> str:
    target = other.settings('index = ["secret.html"]\n')
    (tenant.pages / ".gateway.toml").symlink_to(target)
    os.chown(tenant.pages / ".gateway.toml", tenant.uid, tenant.gid, follow_symlinks=False)
    return "it is a link"


def _foreign(tenant: Tenant, other: Tenant) -> str:
    os.chown(tenant.settings("index = []\n"), other.uid, other.gid)
    return "belongs to somebody else"


def _writable(tenant: Tenant, other: Tenant) -> str:
    tenant.put(".gateway.toml", "index = []\n", 0o666)
    return "others may write it"


def _unreadable(tenant: Tenant, other: Tenant) -> str:
    tenant.put(".gateway.toml", "index = []\n", 0)
    return "Permission denied"


@pytest.mark.parametrize(
    "make",
    [
        _large, _deep, _dotted, _fifo, _directory, _shadow, _theirs, _foreign, _writable,
        _unreadable,
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_said_and_nothing_is_served(
    house: House, alice: Tenant, other: Tenant, make: Callable[[Tenant, Tenant], str]
) -> None:
    said = make(alice, other)
    assert house.status(f"/~{alice.name}/") == 500
    assert said in house.log()
    assert "root:" not in house.log()
    assert "Traceback" not in house.log()
    (other.pages / ".gateway.toml").unlink(missing_ok=True)
    assert house.status(f"/~{other.name}/") == 200


def test_emptied_and_rewritten_file_never_opens_what_it_protects(
    house: House, alice: Tenant
) -> None:
    text = 'auth = { path = "/private/" }\n'
    file = alice.settings(text)
    alice.put("private/x", "x")
    path = f"/~{alice.name}/private/x"
    assert house.status(path) == 401
    end = time.monotonic() + 3
    seen = set()
    while time.monotonic() < end:
        with open(file, "w") as stream:  # as editors do that write in place
            seen.add(house.status(path))
            stream.write(text)
        seen.add(house.status(path))
    assert seen == {401}


# Passwords


@pytest.fixture
def members(house: House, alice: Tenant) -> str:
    """Pages below /private/; return the URL of that directory."""
    alice.settings('[[auth]]\npath = "/private/"\nrealm = "Members"\nfile = ".htpasswd"\n')
    alice.put(".htpasswd", "# users\n" + SECRET)
    alice.put("private/index.html", "inside")
    alice.put("private/file.txt", "text")
    alice.put("private/env.cgi", ENVIRONMENT, 0o755)
    alice.put("local.cgi", '#!/bin/sh\necho "Location: /~$1$QUERY_STRING"\necho\n', 0o755)
    return f"/~{alice.name}/private/"


@pytest.mark.parametrize(
    "path",
    [
        "", "file.txt", "env.cgi", "env.cgi/path/info", "none", "..%2fprivate/file.txt",
        "./file.txt", "%66ile.txt", "x/../file.txt", "?x",
    ],
)  # fmt: skip
def test_everything_below_a_protected_path_needs_the_password(
    house: House, members: str, path: str
) -> None:
    status, fields, body = house.ask(members + path)
    assert status == 401
    assert fields["www-authenticate"] == 'Basic realm="Members", charset="UTF-8"'
    assert "inside" not in body
    for said in (
        basic("bob", "wrong"), basic("bob", ""), basic("eve", "secret"), basic("", "secret"),
        {"Authorization": "Basic"}, {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer " + basic("bob", "secret")["Authorization"][6:]},
    ):  # fmt: skip
        assert house.status(members + path, said) in (401, 429)


@pytest.mark.parametrize(
    "spelt",
    [
        "/~{0}/private", "/%7E{0}/private/file.txt", "/%7e{0}//private//file.txt",
        "/~{0}/%70rivate/file.txt", "/~{0}/x/%2e%2e/private/file.txt", "/~{0}/./private/./file.txt",
        "/~{0}/PRIVATE/file.txt", "/~{0}/private./file.txt", "/~{0}/private%20/file.txt",
        "/~{0}/private%2ffile.txt", "/~{0}/private/%2e%2e/private/file.txt",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_gets_around_the_password(
    house: House, members: str, alice: Tenant, spelt: str
) -> None:
    assert house.status(spelt.format(alice.name)) == 401


def test_right_password_lets_in_and_the_script_learns_the_name_alone(
    house: House, members: str, wait: Wait
) -> None:
    said = basic("bob", "secret")
    assert house.ask(members, said)[::2] == (200, "inside")
    assert house.ask(members + "file.txt", said)[::2] == (200, "text")
    status, _, body = house.ask(members + "env.cgi", said)
    assert status == 200
    assert "REMOTE_USER=bob\n" in body
    assert "AUTH_TYPE=Basic\n" in body
    assert "HTTP_AUTHORIZATION" not in body
    access = (house.daemon.directory / "access.log").read_text
    wait(lambda: access().count(" - bob [") == 3, "the access log names the user")


def test_without_protection_a_name_in_the_request_is_nothing(house: House, alice: Tenant) -> None:
    alice.put("env.cgi", ENVIRONMENT, 0o755)
    alice.settings('index = ["index.html"]\n')
    _, _, body = house.ask(f"/~{alice.name}/env.cgi", basic("bob", "secret"))
    assert "REQUEST_METHOD=GET\n" in body
    for name in ("REMOTE_USER", "AUTH_TYPE", "AUTHORIZATION"):
        assert name not in body


def test_local_redirect_does_not_lead_past_the_password(
    house: House, members: str, alice: Tenant
) -> None:
    script = f"#!/bin/sh\necho 'Location: {members}file.txt'\necho\n"
    alice.put("jump.cgi", script, 0o755)
    assert house.status(f"/~{alice.name}/jump.cgi") == 401
    said = basic("bob", "secret")
    assert house.ask(f"/~{alice.name}/jump.cgi", said)[::2] == (200, "text")


def test_error_page_below_a_protected_path_stays_there(house: House, alice: Tenant) -> None:
    alice.settings(
        'error_pages = { 401 = "/private/e.html", 404 = "/private/e.html", 403 = "/run.cgi" }\n'
        'auth = { path = "/private/" }\n'
    )
    alice.put(".htpasswd", SECRET)
    alice.put("private/e.html", "inside")
    alice.put("run.cgi", ENVIRONMENT, 0o755)
    at = f"/~{alice.name}/"
    for path, status in (("private/", 401), ("none", 404)):
        found, _, body = house.ask(at + path)
        assert found == status
        assert "inside" not in body
    assert house.ask(at + "none", basic("bob", "secret"))[::2] == (404, "inside")


def test_password_file_changes_take_effect_and_users_are_chosen(
    house: House, alice: Tenant, members: str
) -> None:
    said = basic("bob", "secret")
    assert house.status(members, said) == 200
    alice.put(".htpasswd", "carol:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    assert house.status(members, said) == 401
    assert house.status(members, basic("carol", "secret")) == 200


def test_only_named_users_enter(house: House, alice: Tenant, members: str, wait: Wait) -> None:
    alice.put(".htpasswd", SECRET + SECRET.replace("bob", "carol"))
    alice.settings('auth = { path = "/private/", users = ["carol"] }\n')
    wait(lambda: house.status(members, basic("carol", "secret")) == 200, "carol may")
    wait(lambda: house.status(members, basic("bob", "secret")) == 401, "bob may not")


def test_password_file_is_never_sent(house: House, alice: Tenant, members: str) -> None:
    for path in (".htpasswd", "%2ehtpasswd", "private/../.htpasswd", ".gateway.toml"):
        assert house.status(f"/~{alice.name}/{path}") == 404


@pytest.mark.parametrize("what", ["missing", "link", "other", "fifo", "writable"])
def test_password_file_that_does_not_count_lets_nobody_in(
    house: House, alice: Tenant, other: Tenant, members: str, what: str
) -> None:
    file = alice.pages / ".htpasswd"
    file.unlink()
    if what == "link":
        file.symlink_to(other.put(".htpasswd", SECRET))
    elif what == "other":
        os.chown(alice.put(".htpasswd", SECRET), other.uid, other.gid)
    elif what == "fifo":
        os.mkfifo(file)
        os.chown(file, alice.uid, alice.gid)
    elif what == "writable":
        alice.put(".htpasswd", SECRET, 0o666)
    assert house.status(members, basic("bob", "secret")) == 500
    assert f"{file}: the password file of /private/ cannot be used" in house.log()


def test_guessing_is_stopped_and_who_was_right_before_still_enters(
    house: House, members: str, alice: Tenant, wait: Wait
) -> None:
    said = basic("bob", "secret")
    changed = (alice.pages / ".htpasswd").stat().st_ctime
    # A success is remembered once the next change of the file would show.
    wait(lambda: time.time() - changed > 1.1, "the file is old enough")
    assert house.status(members, said) == 200
    found = [house.status(members, basic("bob", f"guess{number}")) for number in range(30)]
    assert set(found) == {401, 429}
    assert found[:10] == [401] * 10
    assert house.status(members, said) == 200
    assert "too many wrong passwords from 127.0.0.1" in house.log()


def test_slow_password_holds_up_neither_keeper_nor_others(
    house: House, members: str, alice: Tenant
) -> None:
    """bcrypt of cost 31 takes days."""
    alice.put(
        ".htpasswd", "bob:$2y$31$" + "a" * 22 + "b" * 31 + "\n" + SECRET.replace("bob", "eve")
    )
    alice.put("env.cgi", ENVIRONMENT, 0o755)
    connection = http.client.HTTPConnection("127.0.0.1", house.daemon.port, timeout=30)
    connection.request("GET", members, headers=basic("bob", "secret"))
    assert house.status(f"/~{alice.name}/env.cgi") == 200
    assert house.status(members, basic("eve", "secret")) == 200
    assert connection.getresponse().status == 503
    connection.close()
    assert "comparing a password took more than" in house.log()
