"""Commands over a data root of their own, in this process."""

import json

from click.testing import CliRunner
from keys_world import TINY

from deploy.cli import root as root_module
from deploy.cli.main import main

PASSWORD = "correct horse battery"


def runner(place, monkeypatch):
    """Runs sealbox with a data root in ``place`` and cheap Argon2; gives (exit code, stdout, stderr)."""
    monkeypatch.setattr(root_module, "argon2_params", lambda _config, _data: TINY)

    def command(*arguments, stdin="", data=True, env=None):
        where = ["--data", str(place / "data")] if data else []
        result = CliRunner().invoke(main, [*where, *arguments], input=stdin, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return command


def answer(result):
    """The JSON of a command that went well."""
    code, out, err = result
    assert (code, err) == (0, "")
    return json.loads(out)
