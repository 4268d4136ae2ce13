"""Floor 7: the command line.

Decides the commands, their few options and their exit codes; the settings file has the rest. Each
command is a function from its options to an exit code. Says what went wrong in one line that names
the thing and the way out, never with a traceback.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence

from gateway import __version__
from gateway.address import Address, is_loopback
from gateway.backends.pool import PoolSettings
from gateway.config.load import SettingsFile, load
from gateway.config.settings import ListenSettings, Settings
from gateway.config.snippet import SERVERS, snippet
from gateway.daemon import asking, fcgiwrap, groups, master
from gateway.exchange import Via
from gateway.guests import WORKER
from gateway.journal import visible
from gateway.listeners.listening import HttpListener, Listener, RelayListener
from gateway.process.kernel import landlock_version
from gateway.process.landlock import describe
from gateway.reading import BadConfig
from gateway.site.site import RouteSettings, SiteSettings
from gateway.site.tenants import TenantsSettings

_EXIT_CODES = """\
exit codes:
  0  it ran and was stopped, or the settings are good
  1  it cannot run: an address is taken, a directory or a right is missing; or no daemon answers
  2  the command line or the settings file is wrong; the message says where
"""
_DOCTOR = """\
It looks at each thing that can be wrong, then runs the script once as the daemon would, or asks for
the URL. A line of the report is "ok", "warn" or "FAIL", what was looked at, and what is to be done.

exit codes:
  0  nothing is wrong
  1  something is wrong
  2  the command line or the settings file is wrong
"""
COMMANDS = {
    "serve": "serve a directory and its scripts; no settings file",
    "run": "the daemon, in the foreground",
    "check": "read a settings file and say what is wrong in it",
    "doctor": "say what is wrong with a script or a URL, check by check",
    "worker": "serve a WSGI application over FastCGI; see worker --help",
    "fcgiwrap": "run scripts for a front server, in fcgiwrap's place; see fcgiwrap -h",
    "snippet": "print a block of settings for a front server",
    "reload": "have a running daemon read its settings again, without losing a request",
    "stop": "have a running daemon finish what runs, and leave",
    "status": "what a running daemon does and has done",
}
"""The commands that there are, and what each is for."""

_HOST = re.compile(r"[A-Za-z0-9.:%_-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_SECONDS = re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,3})?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["worker"]:  # a program of its own, with options of its own
        return _worker(words[1:])
    if words[:1] == ["fcgiwrap"]:
        return _fcgiwrap(words[1:])
    parser = _parser()
    options = parser.parse_args(words)
    match options.command:
        case "serve":
            return _serve(options.directory, options.bind, options.port)
        case "run":
            return _run(options.config)
        case "check":
            return _check(options.config)
        case "doctor":
            return _doctor(options)
        case "snippet":
            return _snippet(options.server, options.config, options.scgi)
        case "reload" | "stop":
            return _ask(options, options.command)
        case "status":
            return _ask(options, f"status {options.form}")
    parser.print_help()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway",
        description="A home for every CGI and FastCGI program on a machine.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    commands = {
        name: subparsers.add_parser(
            name,
            help=about,
            description=f"{about[0].upper()}{about[1:]}.",
            epilog=_EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for name, about in COMMANDS.items()
    }
    serve = commands["serve"]
    serve.add_argument("directory", nargs="?", default=".", metavar="DIR", help="default: this one")
    serve.add_argument("-p", "--port", type=_port, default=8080, help="default: %(default)s")
    serve.add_argument(
        "--bind", type=_host, default="127.0.0.1", metavar="ADDR", help="default: %(default)s"
    )
    _doctor_options(commands["doctor"])
    block = commands["snippet"]
    block.add_argument("server", choices=SERVERS, metavar="SERVER", help=", ".join(SERVERS))
    block.add_argument("--scgi", action="store_true", help="through the SCGI listener")
    for name in ("run", "check", "snippet"):
        commands[name].add_argument(
            "-c", "--config", required=True, metavar="FILE", help="settings file"
        )
    for name in ("reload", "stop", "status"):
        where = commands[name].add_mutually_exclusive_group()
        where.add_argument("-c", "--config", default="", metavar="FILE", help="its settings file")
        where.add_argument(
            "--runtime",
            default="",
            metavar="DIR",
            help=f"its runtime directory; default: {asking.RUNTIME}",
        )
    form = commands["status"].add_mutually_exclusive_group()
    for name in ("json", "prometheus"):
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=name, default="text"
        )
    return parser


def _doctor_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _DOCTOR
    add = parser.add_argument
    add("target", metavar="PATH|URL", help="a script, http://HOST/PATH or unix:SOCKET/PATH")
    add("-c", "--config", metavar="FILE", help="settings: which site it belongs to, who runs it")
    add("--dry", action="store_true", help="look only, do not run the script")
    add("--method", default="GET", help="default: %(default)s")
    add("--query", default="", help="QUERY_STRING")
    add("--stdin", default="", metavar="FILE", help="the request's body")
    add(
        "--time", type=_seconds, default=10.0, metavar="SECONDS",
        help="the longest that it may take; default: %(default)g",
    )  # fmt: skip


def _seconds(text: str) -> float:
    if _SECONDS.fullmatch(text) is None or not 0 < float(text) <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds: more than 0, up to 3600")
    return float(text)


def _port(text: str) -> int:
    if _PORT.fullmatch(text) is None or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 1 to 65535")
    return int(text)


def _host(text: str) -> str:
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _HOST.fullmatch(host) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address, such as 127.0.0.1 or ::1")
    return host


def _complain(text: str) -> None:
    print(f"gateway: {visible(text)}", file=sys.stderr)


def settings_for_directory(directory: str, bind: str, port: int) -> Settings:
    """Return the settings of `gateway serve`: files, `cgi-bin/` if there is one, *.cgi, *.fcgi."""
    root = os.path.abspath(directory)
    scripts = os.path.join(root, "cgi-bin")
    routes = [RouteSettings(match="*.cgi", cgi=True), RouteSettings(match="*.fcgi", fastcgi=True)]
    if os.path.isdir(scripts):
        routes.insert(0, RouteSettings(path="/cgi-bin/", cgi=scripts))
    # Whoever tries a script out means the programs that the shell would find, as in a virtualenv.
    path = {"PATH": os.environ["PATH"]} if "PATH" in os.environ else {}
    site = SiteSettings(
        root=root,
        index=("index.html", "index.cgi"),
        listing=True,
        environment=path,
        route=tuple(routes),
    )
    listener = HttpListener(address=Address(host=bind, port=port))
    return Settings(listen=ListenSettings(http=(listener,)), site=(site,))


def _serve(directory: str, bind: str, port: int) -> int:
    if not os.path.isdir(directory):
        kind = "not a directory" if os.path.exists(directory) else "no such directory"
        _complain(f"{directory}: {kind}; name the one that holds your pages and scripts")
        return 1
    if not os.access(directory, os.R_OK | os.X_OK):
        _complain(f"{directory}: permission denied; it must be readable for you")
        return 1
    settings = settings_for_directory(directory, bind, port)
    return master.run(settings, explain=True, announce=announcement(settings))


def announcement(settings: Settings) -> str:
    """Return what `gateway serve` says when it listens."""
    address, site = settings.listen.http[0].address, settings.site[0]
    lines = [f"Serving {visible(site.root)} on {url(address)}", "  files, with listings"]
    for route in site.route:
        if route.path:
            lines.append(f"  {route.path}  every file there is a CGI script")
        elif route.cgi:
            lines.append(f"  {route.match}  CGI scripts")
        else:
            lines.append(f"  {route.match}  FastCGI programs, started when first asked for")
    lines.append("Why a script fails is shown in the browser. Stop with Ctrl-C.")
    if not is_loopback(address.host):
        lines.append("Others can reach this address: they may run these scripts.")
    if os.geteuid() == 0:
        lines.append("You are root, and so is every script.")
    return "\n".join(lines)


def url(address: Address) -> str:
    """Return what to type into a browser, or the name of the Unix socket."""
    if not address.host:
        return str(address)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    port = "" if address.port == 80 else f":{address.port}"
    return f"http://[{host}]{port}/" if ":" in host else f"http://{host}{port}/"


def _load(file: str | SettingsFile, *, look: bool = True) -> Settings | None:
    """Return the settings, or None after every problem was printed."""
    try:
        return file.load() if isinstance(file, SettingsFile) else load(file, look=look)
    except BadConfig as bad:
        for problem in bad.every():
            _complain(str(problem))
        return None


def _run(file: str) -> int:
    kept = SettingsFile(file)
    settings = _load(kept)
    if settings is None:
        return 2
    where = ", ".join(
        url(listener.address) if via == "http" else f"{listener.address} ({via})"
        for via, _, listener in settings.listen.every()
    )
    announce = f"gateway {__version__} on {where}"
    if not settings.server.runtime:
        announce += (
            f'\n"gateway reload", "stop" and "status" will not find it: set [server] runtime = '
            f'"{asking.RUNTIME}", or use signals (HUP reloads, TERM stops)'
        )
    return master.run(settings, file=kept, explain=False, announce=announce)


def _ask(options: argparse.Namespace, request: str) -> int:
    try:
        path = asking.place(options.config, options.runtime)
    except BadConfig as bad:
        _complain(str(bad))
        return 2
    except ValueError as error:
        _complain(str(error))
        return 2
    return asking.ask(path, request)


def _check(file: str) -> int:
    settings = _load(file)
    if settings is None:
        return 2
    print(visible(file) + ": good")
    for line in summary(settings):
        print(f"  {visible(line)}")
    return 0


def summary(settings: Settings) -> list[str]:
    """Return in a few lines what these settings would serve."""
    lines = [_of_listener(via, listener) for via, _, listener in settings.listen.every()]
    for number, site in enumerate(settings.site, 1):
        hosts = ", ".join((*site.hosts, "every other host") if number == 1 else site.hosts)
        user = f", as {site.user}" if site.user else ""
        lines.append(f"site {number}: {hosts}{user}")
        lines += [f"  {_of_route(route)}" for route in site.route]
        if site.root:
            lines.append(f"  /  files in {site.root}{', with listings' if site.listing else ''}")
    lines += [f"pool {name}: {_of_pool(pool)}" for name, pool in settings.pool.items()]
    return lines + _of_tenants(settings.tenants)


def _of_listener(via: Via, listener: Listener) -> str:
    line = f"listens on {listener.address} for {via}"
    if listener.allow is not None:
        line += f", from {', '.join(listener.allow) or 'nobody'}"
    if isinstance(listener, RelayListener) and listener.script == "param":
        line += f", scripts below {', '.join(listener.roots)}"
    return line


def _of_route(route: RouteSettings) -> str:
    where = f"{route.path}{' ' if route.path and route.match else ''}{route.match}"
    if route.pool:
        return f"{where}  pool {route.pool}"
    if route.fastcgi:
        return f"{where}  FastCGI programs"
    if route.cgi:
        inside = route.cgi if isinstance(route.cgi, str) else route.root
        return f"{where}  CGI scripts{f' in {inside}' if inside else ''}"
    return f"{where}  files in {route.root}"


def _of_tenants(tenants: TenantsSettings | None) -> list[str]:
    if tenants is None:
        return []
    lines = []
    if tenants.userdir:
        lines.append(f"tenants: /~NAME/ is {tenants.userdir.replace('*', 'NAME')}, as NAME")
    if tenants.hosts:
        lines.append(
            f"tenants: http://HOST/ is {tenants.hosts.replace('{host}', 'HOST')}, as owner"
        )
    what = [f"{rule} CGI scripts" for rule in tenants.cgi]
    lines.append(f"  {', '.join(what + [f'{rule} FastCGI programs' for rule in tenants.fastcgi])}")
    lines += [f"  {line}" for line in groups.summary(tenants.allowance)]
    if tenants.sandbox == "strict":
        lines.append(f'  sandbox = "strict", {describe(landlock_version())}')
    return lines


def _of_pool(pool: PoolSettings) -> str:
    if pool.connect:
        return f"workers of others at {', '.join(pool.connect)}"
    count = f"{pool.processes} process{'' if pool.processes == 1 else 'es'}"
    if pool.wsgi:
        return f"{pool.wsgi} in {pool.directory}, engine {pool.engine}, {count}"
    return f"{' '.join(pool.command)}, {count}"


def _doctor(options: argparse.Namespace) -> int:
    settings = None
    if options.config is not None:
        settings = _load(options.config)
        if settings is None:
            return 2
    # Imported here: it stands on all that a front stands on, and a master is to stay small.
    from gateway.daemon import doctor
    from gateway.daemon.examination import Wish

    wish = Wish(
        method=options.method,
        query=options.query,
        stdin=options.stdin,
        seconds=options.time,
        dry=options.dry,
    )
    try:
        return doctor.run(options.target, settings, wish)
    except doctor.BadUsage as bad:
        _complain(str(bad))
        return 2
    except KeyboardInterrupt:
        return 130


def _snippet(server: str, file: str, scgi: bool) -> int:
    settings = _load(file, look=False)  # the block may be for another machine
    if settings is None:
        return 2
    try:
        print(snippet(server, settings, scgi=scgi), end="")
    except ValueError as error:
        _complain(str(error))
        return 2
    return 0


def _fcgiwrap(words: list[str]) -> int:
    try:
        settings = fcgiwrap.settings_of(words, os.environ)
    except fcgiwrap.BadUsage as bad:
        return fcgiwrap.complaint(bad)
    if settings is None:
        print(fcgiwrap.USAGE, end="")
        return 0
    return master.run(settings)


def _worker(words: list[str]) -> int:
    os.execv(sys.executable, [sys.executable, WORKER, *words])
