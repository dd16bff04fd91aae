"""Marionette, the remote control that Thunderbird inherits from Firefox: JSON over a plain socket.

A message is its length in octets, a colon and ``[type, id, name or error, parameters or result]``; type 0
is a command, 1 its answer.
"""

from __future__ import annotations

import json
import socket
from typing import Any

COMMAND, ANSWER = 0, 1
LENGTH_DIGITS_MAX = 10


class MarionetteError(Exception):
    """Thunderbird refused a command, or a script in it failed."""


class Marionette:
    """One session in the chrome context, in which scripts may do what Thunderbird itself may do."""

    def __init__(self, port: int, timeout_s: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        try:
            self._file = self._socket.makefile("rb")
            self._count = 0
            self._read()
            self.command("WebDriver:NewSession")
            self.command("WebDriver:SetTimeouts", {"script": int(timeout_s * 1000)})
            self.command("Marionette:SetContext", {"value": "chrome"})
        except BaseException:
            self.close()
            raise

    def _read(self) -> Any:
        digits = b""
        while (octet := self._file.read(1)) != b":":
            if not octet.isdigit() or len(digits) == LENGTH_DIGITS_MAX:
                raise ConnectionResetError("Thunderbird has hung up")
            digits += octet
        return json.loads(self._file.read(int(digits)))

    def command(self, name: str, parameters: dict[str, Any] | None = None) -> Any:
        """Send one command; its result. Raises MarionetteError when it failed."""
        self._count += 1
        data = json.dumps([COMMAND, self._count, name, parameters or {}]).encode()
        self._socket.sendall(b"%d:%b" % (len(data), data))
        while True:
            kind, number, error, result = self._read()
            if (kind, number) == (ANSWER, self._count):
                break
        if error is not None:
            raise MarionetteError(f"{error.get('error')}: {error.get('message')}")
        return result

    def run(self, script: str, *arguments: Any) -> Any:
        """Run the body of an async function; what it returns."""
        whole = (
            "const done = arguments[arguments.length - 1]; const given = Array.from(arguments).slice(0, -1);"
            f"(async function () {{ {script} }})()"
            ".then(value => done({value}), error => done({error: String(error) + '\\n' + error?.stack}));"
        )
        parameters = {"script": whole, "args": list(arguments), "sandbox": "system", "newSandbox": True}
        answer = self.command("WebDriver:ExecuteAsyncScript", parameters)["value"]
        if answer.get("error"):
            raise MarionetteError(answer["error"])
        return answer.get("value")

    def close(self) -> None:
        """Hang up."""
        if hasattr(self, "_file"):
            self._file.close()
        self._socket.close()
