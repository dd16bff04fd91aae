"""The house rules that a machine can check: who imports whom, where the driver and Twisted may appear."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import mailstore.keys

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("mailstore", "protocols", "backup", "deploy")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

MAX_LINES = 500
MAX_FUNCTION_LINES = 50

ALLOWED = {
    "mailstore": {"mailstore"},
    "backup": {"backup", "mailstore"},
    "protocols": {"protocols", "mailstore"},
    "deploy": {"deploy", "backup", "protocols", "mailstore"},
}

DRIVER = {"mailstore/engine.py"}
"""Only this imports the driver of SQLCipher."""

POSTGRESQL_DRIVER = {"mailstore/directory/pg_connection.py"}
"""Only this imports that of PostgreSQL, which need not be installed."""

OWNERS = {
    "mailstore/account_database.py",
    "mailstore/directory/embedded.py",
    "mailstore/search_index.py",
    "mailstore/server_rekeying.py",
    "backup/state.py",
}
"""Only these open, checkpoint and close databases through the engine."""

TWISTED_IN_MAILSTORE = {
    "mailstore/changes.py",
    "mailstore/executor.py",
    "mailstore/hibernation.py",
    "mailstore/inbox.py",
    "mailstore/lease_watch.py",
    "mailstore/memory_gate.py",
    "mailstore/open_account.py",
    "mailstore/store.py",
    "mailstore/unlock.py",
}

PURE = (
    "protocols/lines.py",
    "protocols/proxy_header.py",
    "protocols/auth_http/grammar.py",
    "protocols/imap/connection.py",
    "protocols/imap/grammar/",
    "protocols/imap/responses/",
    "protocols/imap/picture/",
    "protocols/pop3/commands.py",
    "protocols/pop3/requests.py",
    "protocols/envelope/connection.py",
    "protocols/envelope/grammar.py",
    "protocols/envelope/message.py",
    "protocols/envelope/replies.py",
    "protocols/envelope/requests.py",
    "protocols/https/accounts.py",
    "protocols/https/connection.py",
    "protocols/https/documents.py",
    "protocols/https/facts.py",
    "protocols/https/pages.py",
    "protocols/https/profile.py",
    "protocols/lmtp/grammar.py",
    "protocols/sasl_service/connection.py",
    "protocols/sasl_service/grammar.py",
    "protocols/sasl_service/requests.py",
    "protocols/socketmap/grammar.py",
    "mailstore/directory/",
    "mailstore/keys/",
    "mailstore/mime/",
    "mailstore/ops/",
    "mailstore/search.py",
    "mailstore/search_form.py",
    "mailstore/thread_index.py",
    "mailstore/threads.py",
    "mailstore/transfer/",
    "mailstore/uidset.py",
    "mailstore/wal.py",
    "backup/",
)
"""Files and folders that run without an event loop, whatever they import included."""

COMPUTES_ONLY = (
    "mailstore/address.py",
    "mailstore/flaws.py",
    "mailstore/mime/",
    "mailstore/model.py",
    "mailstore/modified_utf7.py",
    "mailstore/names.py",
    "mailstore/search.py",
    "mailstore/search_form.py",
    "mailstore/thread_index.py",
    "mailstore/threads.py",
    "mailstore/transfer/arrival.py",
    "mailstore/transfer/eml_format.py",
    "mailstore/transfer/file_names.py",
    "mailstore/transfer/folders.py",
    "mailstore/transfer/imap_responses.py",
    "mailstore/transfer/line_ends.py",
    "mailstore/transfer/maildir_format.py",
    "mailstore/transfer/mbox_format.py",
    "mailstore/uidset.py",
    "mailstore/wal.py",
    "protocols/https/facts.py",
    "backup/schedule.py",
)
"""Files and folders that, with whatever they import, touch no disk, network, database, clock or thread."""

OUTSIDE_WORLD = {
    "os",
    "pathlib",
    "shutil",
    "tempfile",
    "socket",
    "subprocess",
    "threading",
    "time",
    "sqlcipher3",
}
EVENT_LOOPS = {"twisted", "asyncio"}

WINGS = {"grammar", "responses", "picture"}
IMAP = {
    "connection": set[str](),
    "output": set[str](),
    "compress": set[str](),
    "grammar": {"connection"},
    "responses": {"grammar"},
    "picture": {"grammar", "responses"},
    "context": {"connection", "output"} | WINGS,
    "progress": {"context"} | WINGS,
    "telling": {"context"} | WINGS,
    "commands": {"connection", "output", "compress", "context", "telling"} | WINGS,
    "session": {"connection", "compress", "context", "progress", "commands", "telling"} | WINGS,
    "server": {"context", "session"},
}
"""What the wings of protocols/imap, and the files beside them, may import of each other."""

STORE_FACE = {
    "mailstore.errors",
    "mailstore.mime",
    "mailstore.model",
    "mailstore.modified_utf7",
    "mailstore.search",
    "mailstore.uidset",
    "mailstore.sealed",
    "mailstore.directory",
    "mailstore.names",
    "mailstore.threads",
}
"""What protocols may know of the store: its values, and the types of its face."""


def name_of(path: Path) -> str:
    """The path as the rules write it."""
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    """The name by which others import the file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    """The file, parsed."""
    return ast.parse(path.read_text("utf-8"))


def dotted(node: ast.expr) -> list[str]:
    """The names in ``a.b.c``; empty for what is no such chain."""
    if isinstance(node, ast.Name):
        return [node.id]
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else []
    return [*inner, node.attr] if inner else []


def named_modules(tree: ast.Module, package: str) -> set[str]:
    """Modules that a file of ``package`` imports, at any depth, or reaches as attributes of those."""
    found: set[str] = set()
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
                top = alias.name.split(".")[0]
                bound[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in MODULES else base)
                bound[alias.asname or alias.name] = inner
    for node in ast.walk(tree):
        chain = dotted(node) if isinstance(node, ast.Attribute) else []
        if chain and chain[0] in bound:
            reached = ".".join([bound[chain[0]], *chain[1:]])
            found |= {reached} & MODULES.keys()
    return found


@cache
def imports(path: Path) -> set[str]:
    """See :func:`named_modules`; what is imported for types alone counts."""
    return named_modules(tree_of(path), ".".join(path.relative_to(ROOT).parent.parts))


@cache
def graph() -> dict[str, set[str]]:
    """The modules of ours that each module imports."""
    return {module: imports(path) & MODULES.keys() - {module} for module, path in MODULES.items()}


@pytest.mark.parametrize(
    ("statement", "module"),
    [
        ("from . import view", "protocols.imap.picture.view"),
        ("from .view import View", "protocols.imap.picture.view"),
        ("from ..grammar import table", "protocols.imap.grammar.table"),
        ("from ...login import LoginGuard", "protocols.login"),
        ("from mailstore.directory import embedded", "mailstore.directory.embedded"),
        ("import mailstore.directory.embedded as other", "mailstore.directory.embedded"),
        ("import mailstore\nmailstore.directory.embedded.EmbeddedDirectory", "mailstore.directory.embedded"),
        (
            "from mailstore import directory as d\nd.embedded.EmbeddedDirectory",
            "mailstore.directory.embedded",
        ),
    ],
)
def test_no_way_to_name_a_module_escapes_the_rules(statement: str, module: str) -> None:
    """What the rules below see must be what Python would import."""
    assert module in named_modules(ast.parse(statement), "protocols.imap.picture")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_module_is_imported_by_a_text(path: Path) -> None:
    """The rules below read import statements, so there must be no other way in."""
    if path == ROOT / "deploy/cli/main.py":
        return  # it imports the commands beside it, of which it may import all
    # importlib.metadata reads what is installed and imports nothing of it.
    named = imports(path) - {"importlib.metadata"}
    assert not {one for one in named if one.split(".")[0] in ("importlib", "pkgutil", "runpy")}
    names = {node.id for node in ast.walk(tree_of(path)) if isinstance(node, ast.Name)}
    assert not names & {"__import__", "__loader__", "__builtins__"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    """deploy -> protocols, backup -> mailstore; protocols and backup do not know each other."""
    own = path.relative_to(ROOT).parts[0]
    rooms = {module.split(".")[0] for module in imports(path)} & set(PACKAGES)
    assert rooms <= ALLOWED[own]


def test_no_imports_go_in_a_circle() -> None:
    """Every file can be read after those that it imports."""
    TopologicalSorter(graph()).prepare()  # raises CycleError, which names the circle


def room_of(module: str) -> str:
    """The wing of protocols/imap that a module is in, or the module itself beside the wings."""
    return module.removeprefix("protocols.imap.").split(".")[0]


@pytest.mark.parametrize("module", [one for one in MODULES if one.startswith("protocols.imap.")])
def test_the_wings_of_imap_know_each_other_one_way(module: str) -> None:
    """The grammar knows no other wing, the picture no command, and only the server knows the session."""
    own = room_of(module)
    known = {room_of(one) for one in graph()[module] if one.startswith("protocols.imap.")}
    assert known <= IMAP[own] | {own}


IMAP_FILES = [path for path in FILES if name_of(path).startswith("protocols/imap/")]
NAME_TAKERS = (["_answer"], ["_failure"], ["_record"], ["_refuse"])
"""What a command's name may be handed to: whatever records or refuses."""
OTHER_FLUSHES = (["output"], ["self"], ["response"], ["_deflate"])
"""Receivers whose ``flush`` sends what has been written, and tells nothing new."""


def test_what_is_known_of_a_command_is_a_column_of_the_table() -> None:
    """No list of commands' names outside the table of commands."""
    for path in IMAP_FILES:
        if name_of(path) == "protocols/imap/grammar/table.py":
            continue
        said = [
            argument
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call) and dotted(node.func)[-1:] in NAME_TAKERS
            for argument in node.args
        ]
        names = [node for node in ast.walk(tree_of(path)) if is_name_of_command(node)]
        assert not [node.lineno for node in names if node not in said], name_of(path)


def is_name_of_command(node: ast.AST) -> bool:
    """Whether this reads ``spec.name``, or ``...spec.name``."""
    return isinstance(node, ast.Attribute) and dotted(node)[-2:] == ["spec", "name"]


def test_pending_changes_are_sent_from_one_place() -> None:
    """Whether EXPUNGE may be sent is decided where everything pending is told, and nowhere else."""
    telling, view = "protocols/imap/telling.py", "protocols/imap/picture/view.py"
    senders = set()
    for path in IMAP_FILES:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Attribute):
                continue
            other = node.attr == "flush" and dotted(node.value)[-1:] in OTHER_FLUSHES
            if node.attr in ("flush", "flush_flags", "new_keywords") and not other:
                senders.add(name_of(path))
    assert senders == {telling, view}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_engine_imports_the_driver(path: Path) -> None:
    """A cursor or connection cannot leave the files that may not even name them."""
    uses = any(module.split(".")[0] in ("sqlcipher3", "sqlite3") for module in imports(path))
    assert not uses or name_of(path) in DRIVER
    asks = any(module.split(".")[0].startswith("psycopg") for module in imports(path))
    assert not asks or name_of(path) in POSTGRESQL_DRIVER


def test_the_driver_of_postgresql_is_imported_only_where_it_is_configured() -> None:
    """A server whose directory is embedded starts without it, and has no memory of it."""
    code = "import sys, deploy.service, deploy.cli.account; sys.exit('psycopg' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_its_owner_opens_and_closes_a_database(path: Path) -> None:
    """So that no account's database is checkpointed without the account's lock."""
    if name_of(path) in OWNERS | DRIVER:
        return
    if name_of(path) != "mailstore/transfer/sqlite_target.py":
        assert not [
            one for one in ast.walk(tree_of(path)) if isinstance(one, ast.alias) and one.name == "open_export"
        ]
    if "mailstore.engine" in imports(path):
        taken = {one.name for one in ast.walk(tree_of(path)) if isinstance(one, ast.alias)}
        read = {one.attr for one in ast.walk(tree_of(path)) if isinstance(one, ast.Attribute)}
        assert not (taken | read) & {"open_connection", "close_all"}
    assert not [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr == "checkpoint"
    ]


def test_nobody_else_names_the_embedded_directory() -> None:
    """Another directory can come in its place: the program knows the interface, and what makes one."""
    for path in FILES:
        if path.parent.name != "directory":
            assert not {one for one in imports(path) if one.startswith("mailstore.directory.")}, name_of(path)
            tree = tree_of(path)
            texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not {"directory.db", "directory.db-wal"} & texts, name_of(path)
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            assert not [name for name in names if "embedded" in name.lower()], name_of(path)


def test_keys_can_be_read_alone() -> None:
    """An auditor of the keys needs no other room, and sees in one list what leaves this one."""
    inside = {module for module in MODULES if module.startswith("mailstore.keys.")}
    beneath = {"mailstore.errors", "mailstore.durable", "mailstore.model"}
    assert {one for module in inside for one in graph()[module]} <= inside | beneath
    outside = [path for module, path in MODULES.items() if module not in inside]
    assert not [name_of(path) for path in outside if path.parent.name != "keys" and imports(path) & inside]
    trees = [ast.parse(path.read_text("utf-8")) for path in outside]
    taken = [
        name.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "mailstore.keys"
        for name in node.names
    ]
    assert set(taken) == set(mailstore.keys.__all__)


@pytest.mark.parametrize("path", [path for path in FILES if name_of(path).startswith("deploy/")], ids=name_of)
def test_deploy_composes_and_touches_no_database(path: Path) -> None:
    """What is in an account, and how a restore is checked, the rooms that it puts together know."""
    inside = {"mailstore.account_database", "mailstore.engine", "mailstore.ops", "mailstore.schema"}
    assert not {
        module for module in imports(path) if any(f"{module}.".startswith(f"{one}.") for one in inside)
    }


def test_only_commands_move_mail_in_and_out() -> None:
    """The server needs no reader of other formats, and a mistake in one cannot stop it."""
    inside = {module for module in MODULES if module.startswith("mailstore.transfer.")}
    users = {module for module in MODULES if graph()[module] & inside}
    assert {one for one in users - inside if not one.startswith("deploy.cli.")} == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_twisted_stays_where_it_belongs(path: Path) -> None:
    """Operations and everything below them run without an event loop."""
    uses = any(module.split(".")[0] == "twisted" for module in imports(path))
    name = name_of(path)
    assert not name.startswith("backup/") or not uses
    if name.startswith("mailstore/"):
        assert not uses or name in TWISTED_IN_MAILSTORE


def leads_to(place: str) -> set[str]:
    """The top packages that a file or folder imports, by way of our own modules included."""
    reached = {module for module, path in MODULES.items() if name_of(path).startswith(place)}
    assert reached, "there is no such file or folder"
    waiting = list(reached)
    while waiting:
        for module in graph()[waiting.pop()] - reached:
            reached.add(module)
            waiting.append(module)
    return {name.split(".")[0] for one in reached for name in imports(MODULES[one])}


@pytest.mark.parametrize("place", PURE)
def test_what_is_pure_leads_to_no_event_loop(place: str) -> None:
    """Grammar, responses and the client's picture can be read, run and tested without Twisted."""
    assert not leads_to(place) & EVENT_LOOPS


@pytest.mark.parametrize("place", COMPUTES_ONLY)
def test_what_only_computes_leads_to_nothing_outside(place: str) -> None:
    """The same input gives the same result, and no test of it needs a folder or a clock."""
    assert not leads_to(place) & (OUTSIDE_WORLD | EVENT_LOOPS)


@pytest.mark.parametrize("path", [p for p in FILES if name_of(p).startswith("protocols/")], ids=name_of)
def test_protocols_know_only_the_face_of_the_store(path: Path) -> None:
    """SQL, keys and files are the store's; the protocols do not know each other, and what they share none."""
    modules = imports(path)
    inner = {module for module in modules if module.startswith("mailstore.")}
    assert all(any(m == face or m.startswith(face + ".") for face in STORE_FACE) for m in inner)
    own = path.relative_to(ROOT).parts[1]
    others = {"imap", "pop3", "lmtp", "envelope", "sasl_service", "socketmap", "https", "auth_http"} - {own}
    if own in ("lmtp", "socketmap"):
        others.remove("envelope")  # LMTP is a dialect of it; the maps say what RCPT would be answered
    assert not any(f"{module}.".startswith(f"protocols.{other}.") for module in modules for other in others)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_rooms_stay_small(path: Path) -> None:
    """Files under 500 lines, functions under 50."""
    text = path.read_text("utf-8")
    assert text.count("\n") < MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_names_say_what_they_mean(path: Path) -> None:
    """Every module, public class and public function has a docstring."""
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "module"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inside = any(isinstance(up, ast.FunctionDef) and node in up.body for up in ast.walk(tree))
            if not node.name.startswith("_") and not inside:
                private = any(
                    isinstance(up, ast.ClassDef) and up.name.startswith("_") and node in up.body
                    for up in ast.walk(tree)
                )
                assert private or ast.get_docstring(node), node.name


@pytest.mark.parametrize("room", ["mailstore", "protocols", "backup"])
def test_every_limit_is_named_by_a_fast_test(room: str) -> None:
    """A bound that no test touches may be off by one, or not kept at all, without anybody noticing."""
    tree = ast.parse((ROOT / room / "limits.py").read_text("utf-8"))
    limits = {node.target.id for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    fast = [path for place in ("unit", "property") for path in (ROOT / "tests" / place).rglob("*.py")]
    named = set(re.findall(r"\w+", "".join(path.read_text("utf-8") for path in fast)))
    assert limits - named == set()
