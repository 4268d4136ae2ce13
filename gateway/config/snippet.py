"""Floor 6: `gateway snippet SERVER`: a block of configuration for the web server in front of us.

Decides which door each server comes through and hands the rest to its writer in `config/blocks.py`
or `config/blocks_more.py`. Looks at nothing but the settings.
"""

from collections.abc import Callable, Mapping

from gateway.config import blocks, blocks_more
from gateway.config.settings import Settings
from gateway.config.share import Door, Share, door, shares
from gateway.exchange import Via

_Writer = Callable[[Door, tuple[Share, ...]], list[str]]
_WRITERS: Mapping[str, _Writer] = {
    "nginx": blocks.nginx,
    "apache": blocks.apache,
    "lighttpd": blocks_more.lighttpd,
    "caddy": blocks_more.caddy,
    "haproxy": blocks_more.haproxy,
}
SERVERS = tuple(_WRITERS)
"""The servers that there is a block for."""
WITHOUT_SCGI = frozenset({"caddy", "haproxy"})


def snippet(server: str, settings: Settings, *, scgi: bool = False) -> str:
    """Return a block for this server that hands our part of each site to us, ready to paste.

    It connects to the first FastCGI listener, else to the first SCGI one, else to the first HTTP
    one; with `scgi`, to the first SCGI one only. Raises ValueError, in words, for a server that is
    not known, one that does not speak SCGI, settings without such a listener, and names that cannot
    be written in its language.
    """
    writer = _WRITERS.get(server)
    if writer is None:
        raise ValueError(f'no block for "{server}"; there is one for {", ".join(SERVERS)}')
    order: tuple[Via, ...] = ("scgi",) if scgi else ("fastcgi", "scgi", "http")
    if server in WITHOUT_SCGI:
        if scgi:
            raise ValueError(f"{server} does not speak SCGI; give it a FastCGI listener")
        order = ("fastcgi", "http")
    lines = writer(door(settings, order), shares(settings))
    return "\n".join(lines) + "\n"
