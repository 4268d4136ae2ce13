"""Floor 6: a relative path starts at the file that names it, not where the daemon was started.

Decides which keys hold a path. Works on tables before they are read, so a value of a wrong type
passes through, to be refused by `read.py` as it was written.
"""

import os
from collections.abc import Callable

from gateway.reading import Table


def _absolute(base: str, value: object) -> object:
    """Return a path as seen from the file; what is not a string is refused later, as it is."""
    return os.path.normpath(os.path.join(base, value)) if isinstance(value, str) else value


def of_keys(*keys: str) -> Callable[[Table, str], Table]:
    """Return what makes the paths under `keys` absolute; "-", "off" and "" are not paths."""

    def anchored(table: Table, base: str) -> Table:
        words = ("", "-", "off")
        return {
            key: _absolute(base, value) if key in keys and value not in words else value
            for key, value in table.items()
        }

    return anchored


def _absolute_program(base: str, value: object) -> object:
    """A program without a slash is looked for in PATH; with one it is a path."""
    return _absolute(base, value) if isinstance(value, str) and "/" in value else value


def _absolute_socket(base: str, value: object) -> object:
    if isinstance(value, str) and value.startswith("unix:") and len(value) > 5:
        return f"unix:{_absolute(base, value[5:])}"
    return value


def _each(convert: Callable[[str, object], object], base: str, values: object) -> object:
    return [convert(base, value) for value in values] if isinstance(values, list) else values


def _absolute_listener(base: str, value: object) -> object:
    """One socket: an address alone, or a table."""
    if not isinstance(value, dict):
        return _absolute_socket(base, value)
    table = dict(value)
    if "address" in table:
        table["address"] = _absolute_socket(base, table["address"])
    if "roots" in table:
        table["roots"] = _each(_absolute, base, table["roots"])
    return _with_programs(table, base)


def of_listen(table: Table, base: str) -> Table:
    """The Unix sockets of `[listen]`, and the directories of scripts that a front server names."""
    return {key: _each(_absolute_listener, base, value) for key, value in table.items()}


def _with_programs(table: dict[str, object], base: str) -> dict[str, object]:
    """The paths of the interpreters."""
    if isinstance(programs := table.get("interpreters"), dict):
        table["interpreters"] = {
            key: _absolute_program(base, value) for key, value in programs.items()
        }
    return table


def of_place(table: Table, base: str) -> Table:
    """The paths of a site or a route."""
    table = _with_programs(dict(of_keys("root", "cgi")(table, base)), base)
    if "sendfile" in table:
        table["sendfile"] = _each(_absolute, base, table["sendfile"])
    if isinstance(directories := table.get("accel"), dict):
        table["accel"] = {key: _absolute(base, value) for key, value in directories.items()}
    if isinstance(routes := table.get("route"), list):
        table["route"] = [
            of_place(route, base) if isinstance(route, dict) else route for route in routes
        ]
    return table


def of_pool(table: Table, base: str) -> Table:
    """The paths of a pool, whose own directory is the file's if it names none."""
    table = dict(of_keys("directory")(table, base))
    if "wsgi" in table or "command" in table:
        table.setdefault("directory", base)
    if "python" in table:
        table["python"] = _absolute_program(base, table["python"])
    command = table.get("command")
    if isinstance(command, list) and command:
        table["command"] = [_absolute_program(base, command[0]), *command[1:]]
    if "connect" in table:
        table["connect"] = _each(_absolute_socket, base, table["connect"])
    return table
