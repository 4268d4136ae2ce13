"""Floor 6: the settings file, read into frozen values and made into handlers."""
