"""Password files as Apache's htpasswd writes them: whose line is which, what password fits it.

Decides which forms of a stored password there are, and how each is compared. Pure but for the
system's libcrypt. Must not know where the file is, nor bound its own time: some forms are made to
be slow, and who wrote the file chose how slow, so `checks.py` runs this in a process of its own.

    $2y$ $2a$ $2b$     bcrypt           htpasswd -B     libcrypt, where the system's has it
    $5$ $6$ $y$ ...    crypt(3)         htpasswd -2 -5  libcrypt, likewise; also old DES (-d)
    $apr1$             Apache's MD5     htpasswd -m     here
    {SHA}              SHA-1, no salt   htpasswd -s     here

A password that is stored as it is (htpasswd -p) is never right.
"""

import base64
import ctypes
import hashlib
import hmac
import re
from collections.abc import Callable
from functools import cache

LINES_MAX = 5000
"""Lines of a file that are looked at."""

_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2")
_CRYPT = re.compile(rb"\$[0-9a-zA-Z]{1,8}\$[!-~]{1,250}|[./0-9A-Za-z]{13}")
_APR1 = re.compile(rb"\$apr1\$([^$]{0,8})\$[./0-9A-Za-z]{22}")
_SHA = b"{SHA}"
_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def stored(data: bytes, user: bytes) -> tuple[bytes, bool]:
    """Return what a password file has for `user`, and whether that is really this user's.

    For who is not in it, the entry of somebody else is returned, so that an answer takes as long as
    for who is. b"" when there is none at all. Of two lines for one user the first counts.
    """
    other = b""
    for line in data.split(b"\n", LINES_MAX)[:LINES_MAX]:
        line = line.rstrip(b"\r \t")
        name, colon, rest = line.partition(b":")
        if not colon or line.startswith(b"#"):
            continue
        entry = rest.partition(b":")[0]
        if name == user:
            return entry, True
        other = other or entry
    return other, False


def fits(password: bytes, entry: bytes) -> bool:
    """Whether a password is the one that is stored as `entry`.

    Raises ValueError for a form that this system does not know. Compares in constant time; a NUL is
    in no password, since crypt(3) would see only what stands before it.
    """
    if b"\0" in password:
        return False
    if entry.startswith(_SHA):
        digest = hashlib.sha1(password, usedforsecurity=False).digest()
        return hmac.compare_digest(base64.b64encode(digest), entry[len(_SHA) :])
    if match := _APR1.fullmatch(entry):
        return hmac.compare_digest(apr1(password, match[1]), entry)
    if not _CRYPT.fullmatch(entry):
        raise ValueError(
            "it is stored in no form that is known here (htpasswd -B makes a good one)"
        )
    made = _crypt()(password, entry)
    if made is None or made.startswith(b"*"):
        raise ValueError("the system's libcrypt does not know the form in which it is stored")
    return hmac.compare_digest(made, entry)


@cache
def _crypt() -> Callable[[bytes, bytes], bytes | None]:
    """Return crypt(3) of the system's libcrypt, which Python 3.13 has no module for any more."""
    for name in _LIBRARIES:
        try:
            crypt = ctypes.CDLL(name).crypt
        except (OSError, AttributeError):
            continue
        crypt.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
        crypt.restype = ctypes.c_char_p
        return crypt
    raise ValueError("it is stored in a form for which this system lacks libcrypt")


def apr1(password: bytes, salt: bytes) -> bytes:
    """Return "$apr1$salt$..." (Apache's variant of MD5-crypt): a thousand rounds of MD5."""

    def md5(*parts: bytes) -> bytes:
        return hashlib.md5(b"".join(parts), usedforsecurity=False).digest()

    inner = md5(password, salt, password)
    mixed = [password, b"$apr1$", salt, (inner * (len(password) // 16 + 1))[: len(password)]]
    length = len(password)
    while length:
        mixed.append(b"\0" if length & 1 else password[:1])
        length >>= 1
    digest = md5(*mixed)
    for number in range(1000):
        odd = number & 1
        digest = md5(
            password if odd else digest,
            salt if number % 3 else b"",
            password if number % 7 else b"",
            digest if odd else password,
        )
    out = bytearray()
    for high, middle, low in ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)):
        _write(out, digest[high] << 16 | digest[middle] << 8 | digest[low], 4)
    _write(out, digest[11], 2)
    return b"$apr1$%b$%b" % (salt, bytes(out))


def _write(out: bytearray, value: int, characters: int) -> None:
    for _ in range(characters):
        out.append(_ALPHABET[value & 63])
        value >>= 6
