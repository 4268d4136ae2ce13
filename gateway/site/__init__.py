"""Floor 4: what a URL means: its site, its route, and the file, script or pool behind it."""
