"""The settings file as a whole: sections, includes, paths, contradictions."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from gateway.address import Address
from gateway.config.load import load
from gateway.config.settings import Settings
from gateway.listeners.listening import HttpListener
from gateway.reading import BadConfig
from gateway.units import Duration, Size

SITE = '[[site]]\nroot = "htdocs"\n'
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write files, by name below a directory; return the path of the first one."""

    def writer(main: str, others: Mapping[str, str] = MappingProxyType({})) -> str:
        (tmp_path / "htdocs").mkdir(exist_ok=True)
        for name, text in {"main": main, **others}.items():
            path = tmp_path / f"{name}.toml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return str(tmp_path / "main.toml")

    return writer


def refusals(file: str, *, look: bool = False) -> list[str]:
    with pytest.raises(BadConfig) as caught:
        load(file, look=look)
    return [str(problem) for problem in caught.value.every()]


def refusal(file: str, *, look: bool = False) -> str:
    (only,) = refusals(file, look=look)
    return only


def test_smallest_file_has_all_defaults(write: Write, tmp_path: Path) -> None:
    settings = load(write(SITE))
    assert settings.listen.http == (HttpListener(address=Address(host="127.0.0.1", port=8080)),)
    assert settings.log.access == "-"
    assert settings.log.error == "-"
    assert settings.log.format == "combined"
    assert settings.server.front_count == 1
    assert [site.root for site in settings.site] == [str(tmp_path / "htdocs")]
    assert settings.pool == {}


def test_every_section_is_read(write: Write, tmp_path: Path) -> None:
    file = write(
        """
        [server]
        user = "www-data"
        fronts = "auto"
        runtime = "run"
        [listen]
        http = ["[::1]:80", "unix:run/http.sock"]
        [log]
        access = "off"
        error = "log/error.log"
        format = "json"
        [limits]
        request_body = "1 MiB"
        head = "3 s"
        [[site]]
        hosts = ["example.org", "*.example.org"]
        queue = 3
          [[site.route]]
          path = "/app/"
          pool = "app"
          idle = "5 min"
        [pool.app]
        wsgi = "hello:application"
        directory = "app"
        """
    )
    settings = load(file, look=False)
    assert settings.server.user == "www-data"
    assert settings.server.front_count == len(os.sched_getaffinity(0))
    assert settings.server.runtime == str(tmp_path / "run")
    assert settings.listen.http == (
        HttpListener(address=Address(host="::1", port=80)),
        HttpListener(address=Address(path=str(tmp_path / "run/http.sock"))),
    )
    assert settings.log.access == "off"
    assert settings.log.error == str(tmp_path / "log/error.log")
    assert settings.log.format == "json"
    assert settings.limits.request_body == Size(1 << 20)
    (site,) = settings.site
    assert site.limits.queue == 3
    assert site.limits.head == Duration(3.0)
    assert site.route[0].limits.idle == Duration(300.0)
    assert site.route[0].limits.queue == 3
    assert settings.pool["app"].directory == tmp_path / "app"


def test_paths_start_at_the_file_that_names_them(write: Write, tmp_path: Path) -> None:
    file = write(
        'include = ["sites.d/*.toml"]\n' + SITE,
        {
            "sites.d/b": """
            [[site]]
            hosts = ["b.test"]
            root = "../b"
              [[site.route]]
              path = "/cgi-bin/"
              cgi = "scripts"
              interpreters = { ".pl" = "bin/perl" }
              [[site.route]]
              path = "/x/"
              root = "/srv/x"
            [pool.p]
            command = ["bin/worker", "bin/argument"]
            [pool.q]
            connect = ["unix:q.sock", "192.0.2.7:9000"]
            [pool.r]
            wsgi = "r"
            python = "python3.12"
            [pool.s]
            wsgi = "s"
            python = "venv/bin/python"
            """
        },
    )
    settings = load(file, look=False)
    site = settings.site[1]
    inside = tmp_path / "sites.d"
    assert site.root == str(tmp_path / "b")
    assert site.route[0].cgi == str(inside / "scripts")
    assert site.route[0].interpreters == {".pl": str(inside / "bin/perl")}
    assert site.route[1].root == "/srv/x"
    assert settings.pool["p"].command == (str(inside / "bin/worker"), "bin/argument")
    assert settings.pool["p"].directory == inside
    assert settings.pool["q"].connect == (f"unix:{inside}/q.sock", "192.0.2.7:9000")
    assert settings.pool["r"].python == "python3.12"
    assert settings.pool["s"].python == str(inside / "venv/bin/python")


def test_included_files_come_sorted_and_once(write: Write) -> None:
    site = '[[site]]\nhosts = ["{}.test"]\nroot = "/"\n'
    file = write(
        'include = ["d/*.toml", "d/a.toml"]\n' + SITE,
        {f"d/{name}": site.format(name) for name in "cab"},
    )
    settings = load(file)
    assert [s.hosts for s in settings.site] == [(), ("a.test",), ("b.test",), ("c.test",)]


def test_include_that_matches_nothing_is_an_empty_directory(write: Write) -> None:
    assert len(load(write('include = ["sites.d/*.toml"]\n' + SITE)).site) == 1


@pytest.mark.parametrize(
    ("include", "why"),
    [
        ('"sites.d/*.toml"', 'include: must be a list such as ["sites.d/*.toml"]'),
        ("[5]", 'include: must be a list such as ["sites.d/*.toml"]'),
        ('["absent.toml"]', 'include: no such file: "absent.toml"'),
        ('["*.toml"]', 'include: "*.toml" includes this file itself'),
    ],
)
def test_wrong_include_is_refused(write: Write, include: str, why: str) -> None:
    assert why in refusal(write(f"include = {include}\n{SITE}"))


def test_included_file_holds_sites_and_pools_only(write: Write, tmp_path: Path) -> None:
    file = write(
        'include = ["a.toml"]\n' + SITE, {"a": 'include = ["main.toml"]\n[log]\n[[sites]]\n'}
    )
    assert refusals(file) == [
        f"{tmp_path}/a.toml:1: include: only the main file may have it",
        f"{tmp_path}/a.toml:2: log: only the main file may have it",
        f'{tmp_path}/a.toml:3: sites: unknown key; did you mean "site"?',
    ]


def test_problem_in_an_included_file_names_that_file(write: Write, tmp_path: Path) -> None:
    file = write('include = ["a.toml"]\n' + SITE, {"a": '[[site]]\nhosts = ["a"]\nrot = "x"\n'})
    assert refusal(file) == (
        f'{tmp_path}/a.toml:3: [[site]] #1: rot: unknown key; did you mean "root"?'
    )


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.toml")
    assert refusal(absent) == f"{absent}: cannot be read: No such file or directory"
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b'a = "\xff"')
    assert refusal(str(binary)) == f"{binary}: not UTF-8 text: byte 5"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no [[site]], so nothing would be served"),
        ("[[sites]]\n" + SITE, 'sites: unknown key; did you mean "site"?'),
        ("server = 1\n" + SITE, "server: must be a table: [server]"),
        ('[site]\nroot = "x"', "site: must be tables in a list: [[site]]"),
        ("site = [1]", "must be a table: [[site]]"),
        ("pool = 1\n" + SITE, "pool: must be tables: [pool.NAME]"),
        ("[pool]\nx = 1\n" + SITE, "[pool.x]: x: must be a table: [pool.NAME]"),
        ("[server]\nfronts = 0\n" + SITE, 'fronts: must be at least 1, or "auto"'),
        ('[server]\nfronts = "all"\n' + SITE, 'must be a whole number, 0 or more or "auto", not'),
        ('[server]\nusr = "x"\n' + SITE, 'main.toml:2: [server]: usr: unknown key; did you'),
        ("[listen]\nhttp = []\n" + SITE, "http: names no address, so nothing would be served"),
        ('[listen]\nhttp = ["8080"]\n' + SITE, 'http: must be an address such as "127.0.0.1:8080"'),
        ('[listen]\nhttp = "127.0.0.1:80"\n' + SITE, "http: must be a list in square brackets"),
        ('[listen]\nhttp = ["[::1]:80", "[::1]:80"]\n' + SITE, '"[::1]:80" stands there twice'),
        ('[listen]\nfastcgi = [{address = "unix:x", script = "param"}]\n' + SITE,
         '[[listen.fastcgi]] #1: script = "param" needs "roots"'),
        ('[listen]\nfastcgi = [{address = "unix:x", roots = ["/srv"]}]\n' + SITE,
         'are for script = "param"'),
        ('[listen]\nfastcgi = [{address = "unix:x", mode = "0666"}]\n' + SITE, "unsafe = true"),
        ('[listen]\nfastcgi = ["0.0.0.0:9000"]\n' + SITE, 'name the front servers in "allow"'),
        ('[listen]\nfastcgi = [{address = "unix:x", allow = ["10.0.0.1/8"]}]\n' + SITE, "10.0.0."),
        ('[listen]\nscgi = [{address = "unix:x", stderr = "peer"}]\n' + SITE, "SCGI has no place"),
        ('[listen]\nscgi = ["unix:x"]\nfastcgi = ["unix:x"]\n' + SITE, "stands there twice"),
        ('[tenants]\nuserdir = "x"\n' + SITE, 'userdir = "x" must be an absolute path with one'),
        ('[log]\nformat = "xml"\n' + SITE, 'format: must be "combined" or "json", not "xml"'),
        ('[limits]\nhead = "0 s"\n' + SITE, "[limits]: head: must be more than 0"),
        ("[limits]\nconcurrency = 0\n" + SITE, "[limits]: concurrency: must be more than 0"),
        ("[limits]\nfirst_byte = 60\n" + SITE, "first_byte: must be a time with its unit"),
        (SITE + 'idle = "0 s"\n', "[[site]] #1: idle: must be more than 0"),
        ("[[site]]\n", "has neither root nor [[site.route]]"),
        (SITE + SITE, "[[site]] #2: hosts: missing: without a host only the first site"),
        (SITE + 'hosts = ["a:80"]\n', '"a:80" is not a host'),
        (SITE + 'hosts = ["a/b"]\n', '"a/b" is not a host'),
        (SITE + 'hosts = ["A"]\n', "lower case"),
        (SITE + 'hosts = ["a", "a"]\n', '"a" is taken by '),
        (SITE + 'environment = { "A=B" = "x" }\n', '"A=B" cannot be the name of a variable'),
        (SITE + '[[site.route]]\npath = "/a/"\n', '[[site.route]] #1: a route needs "cgi"'),
        (SITE + '[[site.route]]\npath = "a/"\ncgi = "x"\n', 'path = "a/" must start with "/"'),
        (SITE + '[[site.route]]\npath = "/"\ncgi = "x"\npool = "p"\n[pool.p]\nwsgi = "a"\n',
         'has one of "cgi", "fastcgi" and "pool"'),
        (SITE + '[[site.route]]\npath = "/a/"\npool = "x"\n', "pool: there is no [pool.x]"),
        (SITE + '[[site.route]]\npath = "/a/"\npool = "x"\n[pool.y]\nwsgi = "a"\n',
         "there is no [pool.x]; there are y"),
        ('[[site]]\n[[site.route]]\nmatch = "*.cgi"\ncgi = true\n', "there is no root"),
        (SITE + '[[site.route]]\npath = "/a/"\ncgi = "x"\nstart = "hot"\n',
         'start: must be "auto" or "warm" or "exec" or "persistent", not "hot"'),
        (SITE + '[[site.route]]\npath = "/a/"\ncgi = "x"\ninterpreters = { pl = "/bin/perl" }\n',
         'must be like ".pl" = "/usr/bin/perl"'),
        (SITE + '[[site.route]]\npath = "/a"\nroot = "x"\n[[site.route]]\npath = "/a"\nroot = "."',
         "[[site]] #1 [[site.route]] #2: an earlier route takes exactly the same paths"),
        (SITE + "[pool.a]\n", "[pool.a]: "),
        (SITE + '[pool.a]\nwsgi = "a"\ncommand = ["b"]\n', "[pool.a]: "),
        (SITE + '[pool."a/b"]\nwsgi = "a"\n', "a pool's name has letters, digits, - and _"),
        (SITE + '[pool.a]\nwsgi = "a"\nprocesses = { style = "dynamic" }\n',
         "processes: a style of processes is not built yet in this version; give their number"),
        (SITE + '[pool.a]\nwsgi = "a"\nprocesses = "many"\n', "processes: must be a whole number"),
    ],
)  # fmt: skip
def test_contradiction_is_refused(write: Write, text: str, why: str) -> None:
    assert why in refusal(write(text))


def test_pool_in_two_files_is_refused(write: Write, tmp_path: Path) -> None:
    pool = '[pool.a]\nwsgi = "a"\n'
    file = write('include = ["b.toml"]\n' + SITE + pool, {"b": pool})
    assert refusal(file) == (
        f"{tmp_path}/b.toml:1: [pool.a]: this pool is there already: "
        f"{tmp_path}/main.toml:4: [pool.a]"
    )


def test_host_of_two_sites_is_refused(write: Write, tmp_path: Path) -> None:
    site = SITE + 'hosts = ["a.test"]\n'
    assert refusal(write(site + site)) == (
        f'{tmp_path}/main.toml:6: [[site]] #2: hosts: "a.test" is taken by '
        f"{tmp_path}/main.toml:1: [[site]] #1"
    )


def test_every_problem_of_every_section_is_found_at_once(write: Write) -> None:
    found = refusals(
        write(
            """
            [server]
            fronts = 0
            [listen]
            http = ["nowhere"]
            [log]
            format = "xml"
            [limits]
            head = 3
            [[site]]
            rot = "htdocs"
              [[site.route]]
              path = "x"
              cgi = "y"
            [[site]]
            [pool.a]
            engine = "jet"
            """
        )
    )
    assert [line.split(": ")[1].split(" ")[0] for line in found] == [
        "[server]", "[listen]", "[log]", "[limits]", "[pool.a]", "[[site]]", "[[site]]", "[[site]]",
    ]  # fmt: skip


def test_missing_directory_is_named(write: Write, tmp_path: Path) -> None:
    file = write(
        """
        [[site]]
        root = "absent"
          [[site.route]]
          path = "/cgi-bin/"
          cgi = "main.toml"
        [pool.a]
        wsgi = "a"
        directory = "gone"
        """
    )
    assert refusals(file, look=True) == [
        f"{file}:9: [pool.a]: directory: no such directory: {tmp_path}/gone",
        f"{file}:3: [[site]] #1: root: no such directory: {tmp_path}/absent",
        f"{file}:6: [[site]] #1 [[site.route]] #1: cgi: not a directory: {file}",
    ]
    assert isinstance(load(file, look=False), Settings)


def test_unknown_account_is_named(write: Write) -> None:
    file = write('[server]\nuser = "no-such-user-here"\n' + SITE)
    assert 'user: no such account: "no-such-user-here"' in refusal(file, look=True)
