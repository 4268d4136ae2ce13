"""Floor 2: the operating system: who starts what, as whom, and how it ends."""
