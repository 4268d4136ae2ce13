"""Floor 1: sizes and times as types, so that a settings reader knows which unit a number needs.

Decides nothing; `config/read.py` turns "64 MiB" into `Size` and "30 s" into `Duration`.
"""

from typing import NewType

Size = NewType("Size", int)
"""A number of bytes."""

Duration = NewType("Duration", float)
"""A number of seconds."""
