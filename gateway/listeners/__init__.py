"""Floor 5: bytes from outside, and the one exchange that all listeners share."""
