"""Hundreds of connections that wait in IDLE, in one thread; each comes back when its worker dies."""

from __future__ import annotations

import asyncio
import random
import threading
import time

from tests.soak.ledger import Ledger
from tests.soak.site import PASSWORD, Site


class Idlers:
    """Start with ``start``; ``away`` are those who are not in IDLE at the moment."""

    def __init__(self, site: Site, ledger: Ledger, count: int, back_s: float, over: threading.Event) -> None:
        """``back_s``: within this time everybody is back in, or the server has failed."""
        self._site, self._ledger, self._count, self._over = site, ledger, count, over
        self._back_s = back_s
        self._tls = site.tls()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self.idle = 0
        self.told = 0

    def start(self) -> None:
        """Connect all of them."""
        self._thread.start()

    def join(self) -> None:
        """Wait until all have gone."""
        self._thread.join()

    async def _all(self) -> None:
        tasks = [asyncio.create_task(self._one(number)) for number in range(self._count)]
        await asyncio.to_thread(self._over.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, number: int) -> None:
        account = self._ledger.accounts[number % len(self._ledger.accounts)]
        choose = random.Random(number)
        while True:
            began = time.monotonic()
            writer = None
            try:
                while writer is None:
                    try:
                        reader, writer = await asyncio.open_connection(
                            "127.0.0.1", self._site.imaps, ssl=self._tls, server_hostname="localhost"
                        )
                        await self._enter(reader, writer, account.name)
                    except (OSError, asyncio.IncompleteReadError):
                        if time.monotonic() - began > self._back_s:
                            self._ledger.is_wrong("an idle client does not get back in")
                            return
                        writer = None
                        await asyncio.sleep(0.1 + choose.random())
                self._ledger.done("back in IDLE", time.monotonic() - began)
                self.idle += 1
                try:
                    while line := await reader.readline():
                        self.told += line.endswith(b" EXISTS\r\n")
                except OSError:
                    pass
                finally:
                    self.idle -= 1
            finally:
                if writer is not None:
                    writer.close()

    @staticmethod
    async def _enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        """Log in, select, IDLE. Raises OSError when the server hangs up."""
        commands = (f'LOGIN "{name}" "{PASSWORD}"', "SELECT INBOX", "IDLE")
        for number, command in enumerate(commands):
            writer.write(f"{number} {command}\r\n".encode())
            wanted = b"+ " if command == "IDLE" else f"{number} OK".encode()
            while True:
                line = await reader.readline()
                if not line or line.startswith(f"{number} NO".encode()):
                    raise ConnectionResetError
                if line.startswith(wanted):
                    break
