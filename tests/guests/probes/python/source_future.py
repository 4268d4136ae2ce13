"""Documented."""
from __future__ import division, print_function
print(__doc__, 3 / 2, end="!\n")
