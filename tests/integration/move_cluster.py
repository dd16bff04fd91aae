"""Two nodes whose accounts move between them: snapshots into folders that both see."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

from running import SEALBOX, answer_of, eventually
from two_nodes import ANN, BOB, SECRET, Cluster, Node

from deploy.config_directory import put_directory_by
from mailstore.account import open_directory
from mailstore.directory import Phase, moves_of
from mailstore.keys import AccountId
from tests.postgresql import PostgreSql

__all__ = ["ANN", "BOB", "SECRET", "MovingCluster", "Node"]


class MovingCluster(Cluster):
    """As :class:`Cluster`, with snapshots."""

    def __init__(self, folder: Path, database: PostgreSql, moves: str = "") -> None:
        """``moves`` are further settings of [node]."""
        super().__init__(folder, database)
        keys = [str(folder / name) for name in ("backup-private", "backup-public")]
        answer_of("backup", "keygen", "--private", keys[0], "--public", keys[1])
        for node in self.nodes.values():
            assert node.server.stop() == 0
            (folder / f"store-{node.name}").mkdir()
            with node.config.open("a") as file:
                file.write(
                    f'{moves}\n[backup]\nstore = "{(folder / f"store-{node.name}").as_uri()}"\n'
                    f'public_key = "{keys[1]}"\n[snapshots]\nsettle_s = 1.0\nscan_interval_s = 1.0\n'
                )
            node.start()

    def record(self, name: str) -> dict[str, Any]:
        """What the directory says of an account."""
        records: list[dict[str, Any]] = self.a.cli("account", "list")["accounts"]  # type: ignore[assignment]  # JSON
        [found] = [one for one in records if one["name"] == name]
        return found

    def folder_of(self, node: Node, name: str) -> Path:
        """Where an account is, or would be."""
        account = str(self.record(name)["account"])
        return node.server.data / "accounts" / account[:2] / account

    def begin_move(self, name: str, source: Node, target: Node) -> subprocess.Popen[bytes]:
        """The command, while it runs."""
        words = ["account", "move", name, target.name, "--config", str(source.config), "--json"]
        return subprocess.Popen([*SEALBOX, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def phase(self, name: str) -> Phase | None:
        """How far the move of an account is; None where there is none."""
        account_id = AccountId(str(self.record(name)["account"]))
        put_directory_by(self.a.server.data, tomllib.loads(self.a.config.read_text())["directory"])
        directory = open_directory(self.a.server.data)
        try:
            seen = moves_of(directory).view(account_id).seen
        finally:
            directory.close()
        return None if seen is None else seen.move.phase

    def settled(self) -> None:
        """Wait until no folder has a mark and nothing is in scratch."""
        for node in self.nodes.values():
            data = node.server.data
            for pattern in ("accounts/??/*/moving", "accounts/??/*/arrived", "backup/scratch/move/*"):
                eventually(lambda data=data, pattern=pattern: not list(data.glob(pattern)), 60)

    def owner(self, name: str) -> Node:
        """Who has an account now."""
        return self.nodes[str(self.record(name)["node"])]

    def other(self, node: Node) -> Node:
        """The other one."""
        return self.b if node is self.a else self.a

    def snapshot_process(self, node: Node) -> int:
        """The process of a node that does what a move needs."""
        found: int = eventually(
            lambda: next((pid for pid, name in node.server.children().items() if "snapshots" in name), 0)
        )
        return found
