"""Floor 6: the names of `gateway/reading.py`, which reads tables, under the settings' own roof.

Decides nothing.
"""

from gateway.reading import (
    LATER,
    BadConfig,
    Form,
    Problems,
    Reader,
    Table,
    Where,
    duration,
    parse,
    share,
    size,
    unknown,
)

__all__ = [
    "LATER",
    "BadConfig",
    "Form",
    "Problems",
    "Reader",
    "Table",
    "Where",
    "duration",
    "parse",
    "share",
    "size",
    "unknown",
]
