"""The command ``sealbox``."""
