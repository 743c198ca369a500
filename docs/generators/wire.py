"""The page of the wire: messages and calls of proto/seedbed.proto with their comments."""

from __future__ import annotations

import re
from pathlib import Path

_PROTO = Path(__file__).resolve().parents[2] / "proto" / "seedbed.proto"
_HEAD = """# Messages of the wire

Written by `make docs` from `proto/seedbed.proto`, which is the reference.
[The protocol, for implementers](../../proto/README.md) adds states, the life of a lease, and an exchange in bytes.
"""
_FIELD = re.compile(r"(?:(repeated|optional) )?([\w.]+|map<\w+, \w+>) (\w+) = (\d+);$")
_VALUE = re.compile(r"(\w+) = (\d+);$")
_CALL = re.compile(r"rpc (\w+)\((stream )?(\w+)\) returns \((stream )?(\w+)\);$")
_BLOCK = re.compile(r"(message|enum|oneof|service) (\w+) \{(\})?$")


def page() -> str:
    """The whole page."""
    text = _PROTO.read_text()
    head, _, body = text.partition('syntax = "proto3";')
    lines = [
        _HEAD,
        "```text",
        *(line.removeprefix("//").removeprefix(" ") for line in head.rstrip().splitlines()),
        "```",
        "",
    ]
    sections: list[tuple[str, str, list[str], list[str]]] = []  # kind, dotted name, comment, rows
    open_blocks: list[int] = []  # of sections; the same one twice within a oneof
    comment: list[str] = []
    for line in map(str.strip, body.splitlines()):
        if line.startswith("//"):
            comment.append(line.removeprefix("//").removeprefix(" "))
            continue
        said, comment = comment, []
        if found := _BLOCK.match(line):
            kind, name, closed = found.groups()
            if kind == "oneof":
                open_blocks.append(open_blocks[-1])
            else:
                outer = f"{sections[open_blocks[-1]][1]}." if open_blocks else ""
                sections.append((kind, outer + name, said, []))
                if not closed:
                    open_blocks.append(len(sections) - 1)
        elif line == "}":
            open_blocks.pop()
        elif open_blocks and (row := _row(line, " ".join(said))):
            sections[open_blocks[-1]][3].append(row)
    for kind, name, said, rows in sections:
        lines += [f"## {kind} {name}", ""]
        if said:
            lines += (
                [*("    " + line for line in said), ""] if any("   " in line for line in said) else [" ".join(said), ""]
            )
        lines += [*_heads(kind), *rows, ""] if rows else ["No fields.", ""]
    return "\n".join(lines)


def _heads(kind: str) -> list[str]:
    if kind == "service":
        return ["| call | request | response | |", "|---|---|---|---|"]
    if kind == "enum":
        return ["| number | value | |", "|---|---|---|"]
    return ["| number | field | type | |", "|---|---|---|---|"]


def _row(line: str, comment: str) -> str | None:
    """Of a table; None for what is no field, such as `reserved`."""
    comment = comment.replace("|", "\\|").replace("<", "\\<")
    if found := _CALL.match(line):
        name, streams, request, answers, response = found.groups()
        sent, got = (
            f"{'stream of ' if many else ''}`{kind}`" for many, kind in ((streams, request), (answers, response))
        )
        return f"| `{name}` | {sent} | {got} | {comment} |"
    if line.startswith("reserved"):
        return None
    if found := _VALUE.match(line):
        name, number = found.groups()
        return f"| {number} | `{name}` | {comment} |"
    found = _FIELD.match(line)
    if found is None:
        if line:
            raise SystemExit(f"expected a field in {_PROTO.name}, got {line!r}")
        return None
    label, kind, name, number = found.groups()
    return f"| {number} | `{name}` | {f'{label} ' if label else ''}`{kind}` | {comment} |"
