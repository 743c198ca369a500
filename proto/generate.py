"""Generates the stubs beside seedbed.proto. Run by `make proto`; the stubs are committed, so users never need it.

`-Iseedbed/proto=proto` gives the file the virtual path of the package, so that the generated imports read
`from seedbed.proto import ...`. With --check nothing is changed: the exit code says whether the stubs are up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(check: bool) -> int:
    """Runs protoc; returns its exit code, or 1 if `check` found a stub that is not what it would write."""
    import grpc_tools
    from grpc_tools import protoc

    include = Path(grpc_tools.__file__).parent / "_proto"
    out = ROOT / "build" / "proto"
    out.mkdir(parents=True, exist_ok=True)
    arguments = ["protoc", f"-Iseedbed/proto={ROOT / 'proto'}", f"-I{include}"]
    arguments += [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    code = int(protoc.main([*arguments, "seedbed/proto/seedbed.proto"]))
    if code:
        return code
    for stub in sorted((out / "seedbed" / "proto").glob("seedbed_pb2*")):
        committed = ROOT / "proto" / stub.name
        if not check:
            committed.write_text(stub.read_text())
            print(f"proto/{stub.name}")
        elif committed.read_text() != stub.read_text():
            print(f"proto/{stub.name} is not what seedbed.proto gives: run `make proto`", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
