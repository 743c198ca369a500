"""Contract's names of environments: written, read again, and what of them a server may ask for."""

from __future__ import annotations

import pytest

from seedbed.common.environment_name import EnvironmentName
from seedbed.common.environment_options import EnvironmentOptions
from seedbed.common.errors import SpecError, UsageError
from seedbed.common.options import override

NAMES = {
    "Plain-v1": EnvironmentName(id="Plain-v1"),
    'a:b{"k":1}': EnvironmentName(id="a:b", kwargs={"k": 1}),
    'X-v0{"a":{"b":[1,null]},"z":"@84x84{"}': EnvironmentName(
        id="X-v0", kwargs={"z": "@84x84{", "a": {"b": [1, None]}}
    ),
    "X-v0@72x96": EnvironmentName(id="X-v0", image_size=(72, 96)),
    "X-v0@grey": EnvironmentName(id="X-v0", grey=True),
    "X-v0@5steps": EnvironmentName(id="X-v0", max_steps=5),
    'X-v0{"k":true}@72x96,grey,500steps': EnvironmentName(
        id="X-v0", kwargs={"k": True}, image_size=(72, 96), grey=True, max_steps=500
    ),
    "seedbed/MemoryChain-v0,length=12": EnvironmentName(id="seedbed/MemoryChain-v0,length=12"),
}


@pytest.mark.parametrize("text", NAMES)
def test_names_are_written_and_read(text: str) -> None:
    assert str(NAMES[text]) == text
    assert EnvironmentName.parse(text) == NAMES[text]


@pytest.mark.parametrize(
    "text", ["", "{}", "X{", 'X{"a":1', "X@nonsense", "X@0x4", 'X{"a":1}b', "X@-1steps", "X{" * 9999]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="expected an environment like ID"):
        EnvironmentName.parse(text)


@pytest.mark.parametrize(
    ("kwargs", "harmless"),
    [
        ({"map_name": "8x8", "slippery": False, "p": 0.25, "sizes": [1, None]}, True),
        ({"mode": "north-east, 2"}, True),
        ({"env_id": "os:path"}, False),
        ({"file": "/etc/passwd"}, False),
        ({"deep": {"list": [{"url": "http://x"}]}}, False),
        ({"module": "os.path"}, False),
        ({"os.path": 1}, False),
    ],
)
def test_servers_name_no_files_and_no_modules(kwargs: dict[str, object], harmless: bool) -> None:
    name = EnvironmentName(id="X-v0", kwargs=kwargs)
    if harmless:
        name.check_harmless()
        return
    with pytest.raises(SpecError, match="give --env and --env-kwargs"):
        name.check_harmless()


def test_equal_keyword_arguments_are_one_text() -> None:
    """A run that goes on compares its options with those that are typed."""
    options = EnvironmentOptions(env="X-v0", env_kwargs='{ "b": 2.0,  "a": [1, {"d": 1, "c": 2}] }', image_size="7x8")
    assert options.env_kwargs == '{"a":[1,{"c":2,"d":1}],"b":2.0}'
    assert options.env_name == 'X-v0{"a":[1,{"c":2,"d":1}],"b":2.0}@7x8'
    assert override(options, {"env_kwargs": options.env_kwargs}) == options
    assert EnvironmentOptions(env="X-v0", env_kwargs="{}").env_kwargs is None


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("env_kwargs", "[1]", "--env-kwargs: expected a JSON object like"),
        ("env_kwargs", '{"size": 1e999}', "--env-kwargs: expected a JSON object, got"),
        ("env_kwargs", "{size: 4}", "--env-kwargs: expected a JSON object, got"),
        ("env_kwargs", '{"a": NaN}', "NaN is no number of JSON"),
        ("image_size", "84", "--image-size: expected HEIGHTxWIDTH like 84x84, got '84'"),
        ("image_size", "0x84", "--image-size"),
        ("env", 'X-v0{"a":1}', "--env: expected an id alone"),
    ],
)
def test_options_that_make_no_sense_are_told_at_once(option: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EnvironmentOptions(**{option: text})  # type: ignore[arg-type]
