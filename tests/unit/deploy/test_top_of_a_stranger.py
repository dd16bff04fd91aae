"""``sealbox top`` and whatever answers at an address: a sentence, and nothing that a terminal obeys."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from test_top import exposition

from deploy.cli.main import main
from deploy.metrics.numbers import MOST_SAMPLES, read

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that says one after the other, and the last one again and again; its URL."""
    waiting = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    client, _ = listening.accept()
                except TimeoutError:
                    continue
                with client:
                    client.settimeout(10)
                    client.recv(65_536)
                    client.sendall(waiting.pop(0) if len(waiting) > 1 else waiting[0])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/metrics"
        finally:
            over.set()
            thread.join()


def shown(*answers: bytes) -> tuple[int, str]:
    """What ``top --once`` says of these answers."""
    with answering(*answers) as url:
        result = CliRunner().invoke(main, ["top", "--once", "--url", url])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def numbers(*, at: int = 1, **replaced: str) -> bytes:
    """A server's numbers after so many minutes, with some words exchanged."""
    text = exposition(at=at)
    for old, new in replaced.items():
        text = text.replace(old, new)
    return HEAD + text.encode()


def test_an_honest_answer_is_shown() -> None:
    code, said = shown(numbers(), numbers(at=2))
    assert code == 0
    assert "FETCH" in said


@pytest.mark.parametrize(
    "answer",
    [
        numbers(FETCH="\x1b]0;title\x07"),
        numbers(FETCH="\x9b2J"),
        numbers(FETCH="a\\nb"),
        b"HTTP/1.1 500 \x1b[2J\r\n\r\n",
        b"\x1b[2J\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\x1b[2J",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
        numbers(le="el"),
        numbers(**{'le="0.01"': 'le="x"'}),
        HEAD + b"\xff\xfe",
        HEAD,
        b"",
    ],
)
def test_what_is_no_answer_is_said_in_one_sentence(answer: bytes) -> None:
    """No traceback, and nothing that moves the cursor or names the window."""
    code, said = shown(answer)
    assert code in (2, 5), said
    assert said.startswith("sealbox: ")
    assert said.count("\n") == 1
    assert said.rstrip("\n").isprintable()


def test_words_in_brackets_are_words() -> None:
    """Rich would take them for its own."""
    code, said = shown(numbers(FETCH="[/nosuch]"), numbers(at=2, FETCH="[/nosuch]"))
    assert code == 0
    assert "[/nosuch]" in said


def test_numbers_that_are_none_are_left_out() -> None:
    assert read("a 1\nb NaN\nc +Inf\n", 0.0).samples == {("a", ()): 1.0}


def test_samples_are_bounded() -> None:
    text = "".join(f'a{{b="{number}"}} 1\n' for number in range(MOST_SAMPLES + 1))
    with pytest.raises(ValueError, match="too many"):
        read(text, 0.0)
