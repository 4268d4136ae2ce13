"""IP addresses as a peer writes them, in text or in bytes, and as we write them.

Decides what is an address and that each has one spelling: what is compared, logged and given to
scripts as REMOTE_ADDR. Must not know who is trusted.

Standard: RFC 5952 for the text of an IPv6 address; an IPv4-mapped one (RFC 4291 section 2.5.5.2) is
written as the IPv4 address that it stands for, because that is who is meant.
"""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

PORT_MAX = 65535

# Narrower than `ipaddress`, which also takes a zone ("%eth0").
_text = re.compile(rb"[0-9A-Fa-f.:]{2,45}").fullmatch


def ip_text(text: bytes) -> str:
    """Return the one spelling of an address in text, without brackets; "" if it is none."""
    return _known(text) if _text(text) else ""


# The same fronts and clients come again and again; what is kept is short and checked.
@lru_cache(maxsize=1024)
def _known(text: bytes) -> str:
    try:
        if b":" in text:
            return _spelled(IPv6Address(text.decode("ascii")))
        return str(IPv4Address(text.decode("ascii")))
    except AddressValueError:
        return ""


def ip_packed(data: bytes) -> str:
    """Return the spelling of an address in network byte order.

    Raises ValueError if it has neither 4 nor 16 bytes.
    """
    if len(data) == 4:
        return str(IPv4Address(data))
    if len(data) != 16:
        raise ValueError(f"an IP address has 4 or 16 bytes, not {len(data)}")
    return _spelled(IPv6Address(data))


def _spelled(address: IPv6Address) -> str:
    return str(address.ipv4_mapped or address)
