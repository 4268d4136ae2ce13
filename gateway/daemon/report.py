"""A status as people read it, and as Prometheus does.

Decides columns, units and names. The status is `daemon/figures.py`'s; what keepers say in it is
shown as far as it is what it should be. Prometheus: the text exposition format, version 0.0.4.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from gateway.journal import visible
from gateway.meter import BOUNDS, CLASSES

INTERPRETERS_SHOWN = 50
SITES_SHOWN = 50
"""Sites in the table: those with most requests. JSON has all of them."""

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

_Row = Mapping[str, object]


def text(status: _Row) -> str:
    """Return the status as tables."""
    total = cast(_Row, status["total"])
    uptime, requests = _number(status["uptime"]), _number(total["requests"])
    named = f", settings {visible(str(status['settings']))}" if status["settings"] else ""
    again = "" if status["reloads"] == 1 else "s"
    lines = [
        f"gateway {status['version']}, process {status['pid']}, up {_time(uptime)}, "
        f"{status['reloads']} reload{again}{named}",
        f"{requests:.0f} requests, {requests / max(uptime, 1e-3):.1f} a second, "
        f"{_number(total['errors']):.0f} errors, {_size(total['sent'])} sent, "
        f"{_number(total['cpu']):.1f} s of processor time in scripts",
        "",
    ]
    fronts = [
        (
            str(front["name"]),
            str(front["pid"]),
            str(front["state"]),
            _beside(front, "connections", "connections_max"),
            _plain(front, "exchanges"),
        )
        for front in _rows(status["fronts"])
    ]
    lines += _table(("front", "process", "state", "connections", "exchanges"), fronts)
    keepers = [
        (
            visible(str(keeper["user"])),
            str(keeper["pid"]),
            str(keeper["state"]),
            _beside(keeper, "running", "concurrency"),
            _beside(keeper, "queued", "queue"),
            _plain(keeper, "zygotes"),
            _faults(keeper),
            _pools(keeper),
        )
        for keeper in _rows(status["keepers"])
    ]
    if keepers:
        head = ("keeper", "process", "state", "scripts", "queue", "zygotes", "faults", "pools")
        lines += ["", *_table(head, keepers)]
    ready = [row for keeper in _rows(status["keepers"]) for row in _interpreters(keeper)]
    if ready:
        head = ("interpreter", "process", "of", "served", "modules", "private", "shared", "idle")
        lines += ["", *_table(head, ready[:INTERPRETERS_SHOWN])]
    sites = cast(Mapping[str, _Row], status["sites"])
    if sites:
        lines += ["", *_sites(sites)]
    return "\n".join(lines)


def _sites(sites: Mapping[str, _Row]) -> list[str]:
    most = sorted(sites, key=lambda name: -_number(sites[name]["requests"]))
    rows = []
    for name in most[:SITES_SHOWN]:
        site = sites[name]
        requests = _number(site["requests"])
        rows.append(
            (
                visible(name),
                f"{requests:.0f}",
                f"{_number(site['errors']):.0f}",
                f"{_number(site['seconds']) / max(requests, 1) * 1000:.1f} ms",
                _size(site["sent"]),
                f"{_number(site['cpu']):.2f} s",
                _size(site["memory"]) if site["memory"] else "-",
            )
        )
    head = ("site", "requests", "errors", "mean", "sent", "CPU", "peak memory")
    lines = _table(head, rows)
    if len(most) > SITES_SHOWN:
        lines.append(f"and {len(most) - SITES_SHOWN} more sites: --json has them")
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay a table: the first column to the left, the others too, each as wide as it must be."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]


def _rows(value: object) -> list[_Row]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _plain(row: _Row, key: str) -> str:
    value = row.get(key)
    return str(value) if type(value) is int else "-"


def _beside(row: _Row, use: str, limit: str) -> str:
    """Return how much of a limit is used."""
    if type(row.get(use)) is not int:
        return "-"
    return f"{row[use]}/{_plain(row, limit)}"


def _interpreters(keeper: _Row) -> Iterator[tuple[str, ...]]:
    """Give the interpreters that a keeper has ready, and what memory each takes."""
    for row in _rows(keeper.get("interpreters")):
        name = " ".join(filter(None, (str(row.get("interpreter")), str(row.get("script") or ""))))
        yield (
            visible(name),
            _plain(row, "pid"),
            visible(str(keeper["user"])),
            _plain(row, "served"),
            _plain(row, "modules"),
            _size(row.get("private")),
            _size(row.get("shared")),
            _time(_number(row.get("idle"))),
        )


def _faults(keeper: _Row) -> str:
    """Return how often each limit was hit."""
    found = keeper.get("faults")
    shown = (
        [f"{visible(str(kind))} {count}" for kind, count in found.items()]
        if isinstance(found, dict)
        else []
    )
    return ", ".join(shown) or "-"


def _pools(keeper: _Row) -> str:
    shown = [
        f"{visible(str(pool.get('name')))} "
        + ("down" if pool.get("down") else _beside(pool, "workers", "processes"))
        for pool in _rows(keeper.get("pools"))
    ]
    return ", ".join(shown) or "-"


def _size(value: object) -> str:
    size = _number(value)
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _time(seconds: float) -> str:
    minutes = int(seconds) // 60
    if not minutes:
        return f"{int(seconds)} s"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"


# Prometheus

_COUNTERS = (
    ("sent", "gateway_sent_bytes_total", "Bytes of answers' bodies."),
    ("received", "gateway_received_bytes_total", "Bytes of requests' bodies."),
    ("cpu", "gateway_script_cpu_seconds_total", "Processor time of scripts."),
)
_OF_KEEPERS = (
    ("running", "gateway_scripts_running", "Scripts that run."),
    ("concurrency", "gateway_scripts_max", "Scripts that may run."),
    ("queued", "gateway_scripts_queued", "Requests that wait for a place."),
    ("queue", "gateway_scripts_queue_max", "Requests that may wait for a place."),
)
_OF_FRONTS = (
    ("connections", "gateway_connections", "Connections that are open."),
    ("connections_max", "gateway_connections_max", "Connections that may be open."),
    ("exchanges", "gateway_exchanges", "Exchanges that run."),
)


def prometheus(status: _Row) -> str:
    """Return the status as Prometheus scrapes it."""
    return "\n".join(_samples(status))


def _samples(status: _Row) -> Iterator[str]:
    sites = cast(Mapping[str, _Row], status["sites"])
    yield from _head("gateway_uptime_seconds", "gauge", "Since the daemon was started.")
    yield f"gateway_uptime_seconds {status['uptime']}"
    yield from _head("gateway_requests_total", "counter", "Exchanges that are over.")
    for name, site in sites.items():
        for kind, count in zip(CLASSES, cast(list[int], site["classes"]), strict=True):
            if count:
                labels = f'site="{_label(name)}",status="{kind}"'
                yield f"gateway_requests_total{{{labels}}} {count}"
    for key, metric, about in _COUNTERS:
        yield from _head(metric, "counter", about)
        for name, site in sites.items():
            yield f'{metric}{{site="{_label(name)}"}} {site[key]}'
    yield from _head("gateway_script_memory_bytes", "gauge", "Largest size of a script so far.")
    for name, site in sites.items():
        yield f'gateway_script_memory_bytes{{site="{_label(name)}"}} {site["memory"]}'
    yield from _durations(cast(Mapping[str, _Row], status["kinds"]))
    for rows, label, gauges in (
        (_rows(status["fronts"]), "name", _OF_FRONTS),
        (_rows(status["keepers"]), "user", _OF_KEEPERS),
    ):
        for key, metric, about in gauges:
            yield from _head(metric, "gauge", about)
            for row in rows:
                if type(row.get(key)) is int:
                    labels = f'{label}="{_label(str(row[label]))}",process="{row["pid"]}"'
                    yield f"{metric}{{{labels}}} {row[key]}"


def _durations(kinds: Mapping[str, _Row]) -> Iterator[str]:
    name = "gateway_request_seconds"
    yield from _head(name, "histogram", "Duration of exchanges.")
    for kind, counts in kinds.items():
        label, seen = f'kind="{_label(kind)}"', 0
        durations = cast(list[int], counts["durations"])
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), durations, strict=True):
            seen += count
            yield f'{name}_bucket{{{label},le="{bound}"}} {seen}'
        yield f"{name}_sum{{{label}}} {counts['seconds']}"
        yield f"{name}_count{{{label}}} {seen}"


def _head(metric: str, kind: str, about: str) -> tuple[str, str]:
    return f"# HELP {metric} {about}", f"# TYPE {metric} {kind}"


def _label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
