"""Floor 3: what answers a request; each is one handler."""
