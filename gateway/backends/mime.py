"""Media types by extension: the system's table, and a built-in one for what it lacks.

Decides the Content-Type of a file from its name alone, never from its bytes. Text is declared to be
UTF-8: without a charset browsers guess, differently. HTML is not: a page says itself what it is
written in, old ones often Latin-1, and the header would overrule it.
"""

from collections.abc import Mapping
from functools import lru_cache

DEFAULT = b"application/octet-stream"
"""For unknown extensions: it is offered for saving, never run (RFC 9110 section 8.3)."""

SYSTEM_TABLE = "/etc/mime.types"

_BUILT_IN = """
application/epub+zip epub
application/gzip gz tgz
application/java-archive jar
application/json json map
application/ld+json jsonld
application/manifest+json webmanifest
application/msword doc
application/pdf pdf
application/postscript ps eps
application/rtf rtf
application/vnd.ms-excel xls
application/vnd.ms-powerpoint ppt
application/vnd.oasis.opendocument.spreadsheet ods
application/vnd.oasis.opendocument.text odt
application/vnd.openxmlformats-officedocument.presentationml.presentation pptx
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet xlsx
application/vnd.openxmlformats-officedocument.wordprocessingml.document docx
application/vnd.rar rar
application/wasm wasm
application/x-7z-compressed 7z
application/x-bzip2 bz2
application/x-tar tar
application/x-xz xz
application/xhtml+xml xhtml xht
application/atom+xml atom
application/rss+xml rss
application/xml xml xsl
application/zip zip
application/zstd zst
audio/aac aac
audio/flac flac
audio/midi mid midi
audio/mp4 m4a
audio/mpeg mp3
audio/ogg oga ogg opus
audio/wav wav
font/otf otf
font/ttf ttf
font/woff woff
font/woff2 woff2
image/avif avif
image/bmp bmp
image/gif gif
image/jpeg jpg jpeg
image/png png
image/svg+xml svg
image/tiff tif tiff
image/vnd.microsoft.icon ico
image/webp webp
text/calendar ics
text/css css
text/csv csv
text/html html htm shtml
text/javascript js mjs
text/markdown md markdown
text/plain txt text log conf ini asc diff patch
text/tab-separated-values tsv
text/vcard vcf
text/vtt vtt
text/x-c c h
text/x-python py
text/x-script.sh sh
video/mp4 mp4 m4v
video/mpeg mpg mpeg
video/ogg ogv
video/quicktime mov
video/webm webm
video/x-matroska mkv
video/x-msvideo avi
"""

_TEXT = (b"application/javascript", b"application/ecmascript", b"image/svg+xml")


def parse(table: str) -> dict[bytes, bytes]:
    """Return extension -> media type of a table in the form of mime.types(5)."""
    types: dict[bytes, bytes] = {}
    for line in table.splitlines():
        kind, *extensions = line.partition("#")[0].split() or ("",)
        if kind.count("/") != 1 or not (kind.isascii() and kind.isprintable()):
            continue
        for extension in extensions:
            types.setdefault(extension.lower().encode(), _with_charset(kind.encode()))
    return types


def _with_charset(kind: bytes) -> bytes:
    text = kind.startswith(b"text/") or kind in _TEXT
    return kind + b"; charset=utf-8" if text and kind != b"text/html" else kind


@lru_cache(maxsize=1)
def table() -> Mapping[bytes, bytes]:
    """Return the system's table over the built-in one; read once."""
    types = parse(_BUILT_IN)
    try:
        with open(SYSTEM_TABLE, encoding="utf-8", errors="replace") as file:
            types.update(parse(file.read()))
    except OSError:
        pass  # many small systems have none; the built-in table serves the web's own types
    return types


def content_type(types: Mapping[bytes, bytes], name: bytes) -> bytes:
    """Return the media type of the file `name`."""
    stem, dot, extension = name.rpartition(b".")
    return types.get(extension.lower(), DEFAULT) if dot and stem else DEFAULT
