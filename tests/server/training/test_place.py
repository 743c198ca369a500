"""A replica's place: what torchrun's variables mean, and what each of them decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from seedbed.common.errors import UsageError
from seedbed.common.options import override
from seedbed.server.options.config import ServerConfig
from seedbed.server.shared.indices import INDEX_STRIDE
from seedbed.server.training.place import Place, place_of

RUN = Path("/runs/x")


def test_without_variables_a_process_is_alone() -> None:
    place = place_of({"LOCAL_RANK": "3"})
    config = ServerConfig()
    assert place.is_alone
    assert place.indices is None
    assert place.own(config, RUN) is config
    assert place.seeded(config, 77) is config


def test_torchruns_variables() -> None:
    names = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert place_of(names) == Place(5, 8, 1, 4, None)
    assert place_of({"RANK": "1", "WORLD_SIZE": "2", "SEEDBED_STORE": "/tmp/s"}) == Place(1, 2, 1, 2, Path("/tmp/s"))


@pytest.mark.parametrize("changes", [{"RANK": "2"}, {"RANK": "x"}, {"LOCAL_RANK": "2"}, {"WORLD_SIZE": "0"}])
def test_variables_that_make_no_sense(changes: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"torchrun|WORLD_SIZE"):
        place_of({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"} | changes)


def test_gradients_stay_on_this_machine_unless_it_is_said() -> None:
    Place(1, 2, 1, 2).check_network(insecure=False)
    Place(1, 4, 1, 2).check_network(insecure=True)
    with pytest.raises(UsageError, match="--insecure-cluster-network"):
        Place(1, 4, 1, 2).check_network(insecure=False)


def test_replicas_have_environments_seeds_ports_and_folders_of_their_own() -> None:
    """The rank decides but for the port, which is of a machine: equal local ranks on two hosts are no twins."""
    config = override(ServerConfig(), {"serving.port": 7777, "monitoring.http_port": 9000, "environment.seed": 3})
    places = [Place(rank, 4, rank % 2, 2) for rank in range(4)]
    own = [place.own(config, RUN) for place in places]
    assert [one.serving.port for one in own] == [7777, 7778, 7777, 7778]
    assert [one.monitoring.http_port for one in own] == [9000, 9001, 9000, 9001]
    assert own[0] == config, "the first is as it was asked for, and writes the run"
    assert [str(one.run.run_dir) for one in own[1:]] == [f"/runs/x/replicas/{rank}" for rank in (1, 2, 3)]
    assert {one.monitoring.dashboard_port for one in own[1:]} == {"off"}
    assert len({place.seeded(config, 10).environment.seed for place in places}) == 4
    assert all(one.environment.seed == 3 for one in own), "environments differ by their indices"
    assert [place.first_index for place in places] == [rank * INDEX_STRIDE for rank in range(4)]
    assert {place.learners for place in places} == {1}, "torchrun has started them"
    assert Place(1, 2, 1, 2, Path("store")).learners == 2
    assert all(place.run_of(place.folder_of(RUN)) == RUN for place in places)


def test_local_ranks_are_for_ports_and_devices() -> None:
    """In seeds and indices they would give every host the same environments."""
    root = Path(__file__).resolve().parents[3] / "server"
    users = {path.name for path in root.rglob("*.py") if "local_rank" in path.read_text()}
    assert users == {"place.py", "replica.py"}
    text = (root / "training/replica.py").read_text()
    assert text.count("local_rank") == text.count("cuda:{place.local_rank}") == 1
