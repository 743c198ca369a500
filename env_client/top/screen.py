"""The page of `seedbed top` as lines of text, as wide and as long as the terminal is."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from seedbed.common.counting import count
from seedbed.env_client.top.figures import ClientFigures, Figures, TaskFigures

Style = Literal["title", "plain", "quiet", "mark"]
SortKey = Literal["client", "host", "envs", "steps/s", "think", "state", "since", "reconnects", "seen"]
SORT_KEYS: tuple[SortKey, ...] = get_args(SortKey)
_TEXTS: tuple[SortKey, ...] = (
    "client",
    "host",
    "state",
)  # these begin at the top with the first, numbers with the most

_SLOW = 2.0  # times the median time to think, as in the dashboard
_ENOUGH = 3  # clients: below this there is no median to speak of
_FULL = 0.85  # cores of a process; beyond this its queue grows
_GAP = "  "
_LARGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Line:
    """One line, and how it is shown."""

    text: str = ""
    style: Style = "plain"


@dataclass(frozen=True, slots=True)
class Order:
    """How the fleet is sorted."""

    key: SortKey = "think"
    reverse: bool = False

    @property
    def descending(self) -> bool:
        """Whether the largest comes first."""
        return (self.key not in _TEXTS) != self.reverse

    def next(self) -> Order:
        """By the next column."""
        return Order(SORT_KEYS[(SORT_KEYS.index(self.key) + 1) % len(SORT_KEYS)])


def draw(figures: Figures, where: str, order: Order, width: int, height: int | None = None) -> list[Line]:
    """The page.

    Args:
        figures: what it shows.
        where: address of the server and name of the environment.
        order: of the fleet.
        width: columns of the terminal; lines are cut to them.
        height: its lines; None: as many as there are.
    """
    lines = [*_head(figures, where), Line(), *_verdict(figures, width), Line(), *_stages(figures), Line()]
    lines += _processes(figures)
    if figures.tasks:
        lines += [Line(), *_tasks(figures.tasks)]
    if figures.clients is not None:
        room = None if height is None else max(0, height - len(lines) - 3)
        lines += [Line(), *_fleet(figures.clients, order, room)]
    lines = lines if height is None else lines[:height]
    return [Line(cut(line.text, width), line.style) for line in lines]


def _head(figures: Figures, where: str) -> Iterator[Line]:
    yield Line(
        f"{clean(figures.run)}   {where}   {figures.phase} for {duration(figures.uptime_s)}   "
        f"seedbed {clean(figures.version)}",
        "title",
    )
    rates = figures.rates
    rows = "-" if figures.batch_rows is None else f"{figures.batch_rows:.1f}"
    yield Line(
        f"steps/s {rates.get('agent_steps', 0):,.0f}   frames/s {rates['frames']:,.0f}   "
        f"updates/s {rates.get('updates', 0):.1f}   episodes/s {rates.get('episodes', 0):.2f}   rows a batch {rows}"
    )
    yield Line(
        f"environments {figures.environments:,} of {figures.room:,}   streams {figures.streams:,}   "
        f"queued unrolls {figures.queued_unrolls:,}"
    )
    if figures.learnt:
        names = {"episode_return_mean": "return", "policy_lag_mean": "lag", "policy_lag_max": "lag max"}
        yield Line("   ".join(f"{names.get(name, name)} {value:.4g}" for name, value in figures.learnt.items()))


def _verdict(figures: Figures, width: int) -> Iterator[Line]:
    verdict = figures.verdict
    first = f"BOTTLENECK  {verdict.stage}: {verdict.reason}."
    yield from (Line(text) for text in textwrap.wrap(first, width, subsequent_indent=" " * 12))
    yield from (
        Line(text, "quiet")
        for text in textwrap.wrap(f"-> {verdict.change}.", width, initial_indent=" " * 12, subsequent_indent=" " * 15)
    )


def _stages(figures: Figures) -> Iterator[Line]:
    yield Line(f"{'STAGE':<16}{'mean':>12}{'thread busy':>15}", "quiet")
    for name, stage in figures.stages.items():
        share = "" if stage.share is None else f"{stage.share:>15.0%} {_bar(stage.share)}"
        yield Line(f"{clean(name):<16}{milliseconds(stage.mean_ms):>12}{share}")
    if not figures.stages:
        yield Line("nothing happened meanwhile", "quiet")


def _processes(figures: Figures) -> Iterator[Line]:
    yield Line(f"{'PROCESS':<16}{'memory':>12}{'cores':>15}", "quiet")
    for name, cores in figures.cores.items():
        memory = f"{figures.memory_bytes[name] / 2**20:,.0f} MiB"
        style: Style = "mark" if name.startswith("frontend") and cores >= _FULL else "plain"
        yield Line(f"{clean(name):<16}{memory:>12}{cores:>15.2f} {_bar(cores)}", style)


def _bar(share: float) -> str:
    return " " + "#" * min(40, round(20 * share)) if share >= 0.025 else ""


_MOST_TASKS = 12


def _tasks(tasks: Sequence[TaskFigures]) -> Iterator[Line]:
    """All that there is room for; of more those that nobody plays first, then the lowest scores."""
    shown = tasks
    if len(tasks) > _MOST_TASKS:
        shown = sorted(tasks, key=lambda one: (one.environments > 0, -math.inf if one.score is None else one.score))
    shown = shown[:_MOST_TASKS]
    left = "" if len(shown) == len(tasks) else f", the worst {len(shown)} of them"
    title = f"TASK  {len(tasks)}{left}"
    width = min(_LARGEST_NAME, max(columns_of(text) for text in (title, *(clean(one.name) for one in shown))))
    people = any(one.score is not None for one in tasks)
    head = f"{'envs':>6}{'steps':>14}{'share':>7}{'return':>10}{'cohort':>10}{'of people' if people else '':>11}"
    yield Line(f"{pad(title, width, left=True)}{head}".rstrip(), "quiet")
    for one in shown:
        cells = (
            f"{one.environments:>6}{one.agent_steps:>14,}{_or_dash(one.share, '.0%'):>7}"
            f"{_or_dash(one.return_mean, '.2f'):>10}{_or_dash(one.cohort_return_mean, '.2f'):>10}"
            f"{_or_dash(one.score, '.1%') if people else '':>11}"
        )
        line = f"{pad(clean(one.name), width, left=True)}{cells}".rstrip()
        yield Line(line, "plain" if one.environments else "mark")


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


_CELLS: dict[SortKey, Callable[[ClientFigures], str]] = {
    "client": lambda one: clean(one.client) or "-",
    "host": lambda one: clean(one.host),
    "envs": lambda one: f"{one.environments:,}",
    "steps/s": lambda one: "-" if one.steps_per_s is None else f"{one.steps_per_s:,.0f}",
    "think": lambda one: "-" if one.think_ms is None else milliseconds(one.think_ms),
    "state": lambda one: clean(one.state),
    "since": lambda one: duration(one.since_s),
    "reconnects": lambda one: f"{one.reconnects:,}",
    "seen": lambda one: f"{one.last_seen_s:.1f} s",
}
_VALUES: dict[SortKey, Callable[[ClientFigures], str | float | None]] = {
    "client": lambda one: one.client,
    "host": lambda one: one.host,
    "envs": lambda one: one.environments,
    "steps/s": lambda one: one.steps_per_s,
    "think": lambda one: one.think_ms,
    "state": lambda one: one.state,
    "since": lambda one: one.since_s,
    "reconnects": lambda one: one.reconnects,
    "seen": lambda one: one.last_seen_s,
}


def ordered(clients: Sequence[ClientFigures], order: Order) -> list[ClientFigures]:
    """The fleet in order; what is not known stands last."""
    value = _VALUES[order.key]
    known = [one for one in clients if value(one) is not None]
    known.sort(key=lambda one: one.client)
    known.sort(key=lambda one: value(one), reverse=order.descending)  # type: ignore[arg-type,return-value]  # of one kind
    return known + [one for one in clients if value(one) is None]


def _fleet(clients: Sequence[ClientFigures], order: Order, room: int | None) -> Iterator[Line]:
    rows = ordered(clients, order)
    shown = rows if room is None else rows[:room]
    environments = sum(one.environments for one in clients)
    left = "" if len(shown) == len(rows) else f", the first {len(shown)} of them"
    yield Line(f"FLEET  {count(len(rows), 'client')}, {count(environments, 'environment')}{left}", "quiet")
    table = [[key + (" v" if order.descending else " ^") * (key == order.key) for key in SORT_KEYS]]
    table += [[_CELLS[key](one) for key in SORT_KEYS] for one in shown]
    widths = [min(_LARGEST_NAME, max(columns_of(row[i]) for row in table)) for i in range(len(SORT_KEYS))]
    limit = _slow_from(clients)
    for number, row in enumerate(table):
        cells = [pad(cell, width, left=key in _TEXTS) for cell, width, key in zip(row, widths, SORT_KEYS, strict=True)]
        yield Line(_GAP.join(cells), "quiet" if number == 0 else _style(shown[number - 1], limit))


def _style(client: ClientFigures, limit: float) -> Style:
    if client.state == "grace":
        return "quiet"
    return "mark" if client.state != "live" or (client.think_ms or 0.0) > limit else "plain"


def _slow_from(clients: Sequence[ClientFigures]) -> float:
    """Beyond how many milliseconds of thinking a client is called slow."""
    times = sorted(one.think_ms for one in clients if one.think_ms is not None)
    return _SLOW * times[(len(times) - 1) // 2] if len(times) >= _ENOUGH else float("inf")


def clean(text: str) -> str:
    """Strangers' text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def columns_of(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(_width(letter) for letter in text)


def _width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def cut(text: str, width: int) -> str:
    """What of a text fits into so many columns."""
    taken = 0
    for place, letter in enumerate(text):
        taken += _width(letter)
        if taken > width:
            return text[:place]
    return text


def pad(text: str, width: int, *, left: bool) -> str:
    """A text in exactly so many columns."""
    text = cut(text, width)
    blanks = " " * (width - columns_of(text))
    return text + blanks if left else blanks + text


def milliseconds(value: float) -> str:
    """With three digits."""
    if value >= 1000:
        return f"{value / 1000:.3g} s" if value < 1e6 else f"{value / 1000:,.0f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def duration(seconds: float) -> str:
    """As 1:02:03, days counted as hours."""
    minutes, whole_s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{whole_s:02d}"
