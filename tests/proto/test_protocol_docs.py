"""The worked example in proto/README.md, computed anew."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import Message

from seedbed.common import codec
from seedbed.common.echo import echo_action, echo_encode
from seedbed.common.timestep import StepType, Timesteps
from seedbed.env_client.environments.echo import ECHO_SPECS
from seedbed.proto import seedbed_pb2 as pb

FOLDER = Path(__file__).resolve().parents[2] / "proto"
SPEC = ECHO_SPECS["seedbed/Echo-v0"]
OBSERVATIONS = echo_encode([0, 1], 0, 0)


def hello() -> Message:
    return codec.pack_hello(client_id="c", run_id=0x1122334455667788, group=0, environment_indices=[0, 1], spec=SPEC)


def welcome() -> Message:
    version = codec.protocol_version()
    told = pb.Welcome(
        protocol=version,
        grace_s=30.0,
        run_name="demo",
        server_version="0.1.0",
        environment_indices=[0, 1],
        tasks=[0, 0],
    )
    return pb.ServerMessage(welcome=told)


def steps() -> Message:
    first = np.full(2, StepType.FIRST, np.uint8)
    rows = Timesteps(first, np.zeros(2, np.float32), np.ones(2, np.float32), (OBSERVATIONS,))
    return codec.pack_steps(1, rows)


def actions() -> Message:
    return codec.pack_actions(1, [echo_action(OBSERVATIONS)], 42)


MESSAGES = {"hello": hello, "welcome": welcome, "steps": steps, "actions": actions}


def examples() -> dict[str, str]:
    """The hex blocks of the README."""
    blocks = re.findall(r"^```hex\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return dict(zip(MESSAGES, blocks, strict=True))


def bytes_of(block: str) -> bytes:
    """What stands left of the bars."""
    return bytes.fromhex(" ".join(line.partition("|")[0] for line in block.splitlines()))


@pytest.mark.parametrize("name", MESSAGES)
def test_bytes_of_the_example(name: str) -> None:
    data = MESSAGES[name]().SerializeToString(deterministic=True)
    assert bytes_of(examples()[name]).hex(" ") == data.hex(" ")


@pytest.mark.parametrize("name", MESSAGES)
def test_notes_name_the_length_of_the_message(name: str) -> None:
    block = examples()[name]
    data, noted = bytes_of(block), re.search(r"(\d+) bytes", block)
    tag_and_length = 3 if data[1] & 0x80 else 2  # bytes
    assert noted is not None
    assert int(noted[1]) == len(data) - tag_and_length


def test_readme_names_every_status_of_the_protocol() -> None:
    statuses = set(re.findall(r"^//   ([A-Z_]{6,})  ", (FOLDER / "seedbed.proto").read_text(), re.MULTILINE))
    assert len(statuses) == 8
    readme = (FOLDER / "README.md").read_text()
    assert {status for status in statuses if f"`{status}`" not in readme} == set()
