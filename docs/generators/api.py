"""The page of the Python API: signatures and docstrings of all that `import seedbed` has."""

from __future__ import annotations

import inspect
import re
from typing import Any

import seedbed
from seedbed import testing

_HEAD = """# The Python API, name by name

Written by `make docs` from the code. [python-api.md](../python-api.md) shows how the names are used together.
"""


def page() -> str:
    """The whole page."""
    lines = [_HEAD]
    for name in seedbed.__all__:
        if not name.startswith("__"):
            lines += _entry(f"seedbed.{name}", getattr(seedbed, name))
    lines += ["## seedbed.testing", "", _text(testing.__doc__), ""]
    for name in testing.__all__:
        lines += _entry(f"seedbed.testing.{name}", getattr(testing, name), "###")
    return "\n".join(lines)


def _entry(name: str, value: Any, mark: str = "##") -> list[str]:
    lines = [f"{mark} {name}", ""]
    if inspect.isclass(value):
        lines += [_text(value.__doc__), ""]
        for member, held in vars(value).items():
            if member.startswith("_"):
                continue
            if isinstance(held, property):
                lines += [f"{mark}# {value.__name__}.{member}", "", _text(held.__doc__), ""]
            elif inspect.isfunction(held):
                lines += [f"{mark}# {value.__name__}.{member}", "", *_signature(member, held), _text(held.__doc__), ""]
        return lines
    return [*lines, *_signature(name, value), _text(value.__doc__), ""]


def _signature(name: str, value: Any) -> list[str]:
    signature = inspect.signature(value)
    parameters = [str(parameter) for parameter in signature.parameters.values() if parameter.name != "self"]
    keywords = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    if keywords and "*" not in "".join(p[:1] for p in parameters):
        first = next(n for n, text in enumerate(parameters) if text.startswith(keywords[0]))
        parameters.insert(first, "*")
    result = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    parameters = [re.sub(r": '([^']*)'", r": \1", parameter) for parameter in parameters]
    short = f"{name}({', '.join(parameters)}){result}"
    if len(short) > 100:
        short = "\n".join([f"{name}(", *(f"    {parameter}," for parameter in parameters), f"){result}"])
    return ["```python", short, "```", ""]


def _text(docstring: str | None) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines = []
    section = False
    for line in inspect.cleandoc(docstring or "").splitlines():
        if found := re.fullmatch(r"(Args|Returns|Raises|Attributes)(?: \(.*\))?:", line):
            section = True
            lines.append(f"**{found.group(1)}**\n")
        elif section and (found := re.fullmatch(r"    (\w[\w., ]*): (.*)", line)):
            lines.append(f"- `{found.group(1)}`: {found.group(2)}")
        elif section and line.startswith("    "):
            lines.append(("  " if line.startswith("        ") else "") + line.strip())
        else:
            section = section and not line.strip()
            lines.append(line)
    return "\n".join(lines)
