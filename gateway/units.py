"""Floor 1: sizes and times as types, so that a settings reader knows which unit a number needs.

Decides nothing; `reading.py` turns "64 MiB" into `Size`, "30 s" into `Duration` and
"150 %" into `Share`.
"""

from typing import NewType

Size = NewType("Size", int)
"""A number of bytes."""

Duration = NewType("Duration", float)
"""A number of seconds."""

Share = NewType("Share", float)
"""A part of one processor core: 1.0 is all of it, 1.5 is one and a half."""
