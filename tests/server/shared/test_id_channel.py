"""Ids and control messages over one socket: order, pieces, a reader that does not read, and the end."""

from __future__ import annotations

import json
import multiprocessing
import socket
import struct
from collections.abc import Iterator

import pytest

from seedbed.server.shared.id_channel import Control, IdChannel

MESSAGES: list[int | Control] = [
    5,
    {"type": "open", "name": "Ünïcode \N{SNOWMAN}", "run_id": 2**64 - 1},
    0,
    2**32 - 2,
    {},
    {"type": "big", "ids": list(range(30_000))},
    7,
    {"type": "detach", "stream": 3},
]


@pytest.fixture
def pair() -> Iterator[tuple[IdChannel, IdChannel]]:
    ours, theirs = IdChannel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def send_all(channel: IdChannel, messages: list[int | Control]) -> None:
    for message in messages:
        channel.send_ids((message,)) if isinstance(message, int) else channel.send(message)


def wire_bytes(messages: list[int | Control]) -> bytes:
    """The format, written down a second time."""
    parts = []
    for message in messages:
        if isinstance(message, int):
            parts.append(struct.pack("<I", message))
        else:
            text = json.dumps(message, separators=(",", ":")).encode()
            parts.append(struct.pack("<II", 0xFFFFFFFF, len(text)) + text)
    return b"".join(parts)


def test_ids_and_controls_keep_their_order(pair: tuple[IdChannel, IdChannel]) -> None:
    ours, theirs = pair
    send_all(ours, MESSAGES)
    received: list[int | Control] = []
    while len(received) < len(MESSAGES):
        received += theirs.receive()
        ours.flush()
    assert received == MESSAGES
    assert theirs.receive() == []


def test_both_directions_are_independent(pair: tuple[IdChannel, IdChannel]) -> None:
    ours, theirs = pair
    ours.send_ids([1, 2, 3])
    theirs.send({"type": "ready"})
    assert ours.receive() == [{"type": "ready"}]
    assert theirs.receive() == [1, 2, 3]


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 7, 4096])
def test_messages_survive_being_cut_anywhere(piece: int) -> None:
    raw, end = socket.socketpair()
    channel = IdChannel(end)
    messages = [message for message in MESSAGES if not isinstance(message, dict) or message.get("type") != "big"]
    data = wire_bytes(messages)
    received: list[int | Control] = []
    for start in range(0, len(data), piece):
        raw.sendall(data[start : start + piece])
        received += channel.receive()
    assert received == messages
    raw.close()
    channel.close()


def test_a_reader_that_does_not_read_never_blocks_the_writer(pair: tuple[IdChannel, IdChannel]) -> None:
    ours, theirs = pair
    sent: list[int | Control] = []
    while ours.backlog_bytes < 1 << 20:
        batch = list(range(len(sent), len(sent) + 1000))
        ours.send_ids(batch)
        sent += batch
    ours.send({"type": "after"})
    sent.append({"type": "after"})
    received: list[int | Control] = []
    while len(received) < len(sent):
        received += theirs.receive()
        ours.flush()
    assert received == sent
    assert ours.backlog_bytes == 0


def test_the_end_comes_after_what_was_sent(pair: tuple[IdChannel, IdChannel]) -> None:
    ours, theirs = pair
    ours.send_ids([1, 2])
    ours.close()
    assert theirs.receive() == [1, 2]
    with pytest.raises(EOFError):
        theirs.receive()


@pytest.mark.parametrize("num_ids", [(1 << 16) // 4, 3 * (1 << 16) // 4])
def test_nothing_is_lost_when_the_end_follows_a_full_read(pair: tuple[IdChannel, IdChannel], num_ids: int) -> None:
    """The read that fills its buffer exactly tries again and finds the end: what it has read still counts."""
    ours, theirs = pair
    ours._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    ours.send_ids(range(num_ids))
    assert ours.backlog_bytes == 0
    ours.close()
    assert theirs.receive() == list(range(num_ids))
    with pytest.raises(EOFError):
        theirs.receive()


def test_writing_to_the_dead_raises(pair: tuple[IdChannel, IdChannel]) -> None:
    ours, theirs = pair
    theirs.close()
    with pytest.raises(OSError, match=r"pipe|reset"):
        ours.send_ids([1])


def _echo(channel: IdChannel) -> None:
    """Waits for one message and sends it back."""
    channel._socket.setblocking(True)
    (message,) = channel.receive()[:1]
    send_all(channel, [message])


def test_an_end_can_be_handed_to_a_spawned_process(pair: tuple[IdChannel, IdChannel]) -> None:
    ours, theirs = pair
    process = multiprocessing.get_context("spawn").Process(target=_echo, args=(theirs,))
    process.start()
    theirs.close()
    ours.send({"hello": 1})
    ours._socket.setblocking(True)
    assert ours.receive() == [{"hello": 1}]
    process.join(30)
    assert process.exitcode == 0


def test_what_is_queued_leaves_with_the_next_send_and_before_it(pair: tuple[IdChannel, IdChannel]) -> None:
    ours, theirs = pair
    ours.queue(4)
    ours.queue(9)
    assert theirs.receive() == []
    ours.send({"type": "detach"})
    assert theirs.receive() == [4, 9, {"type": "detach"}]
