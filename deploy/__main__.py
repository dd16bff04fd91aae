"""``python -m deploy`` is the command ``sealbox``."""

from deploy.cli.main import main

main(prog_name="sealbox")
