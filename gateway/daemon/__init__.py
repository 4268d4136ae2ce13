"""Floor 7: the processes and the command line."""
