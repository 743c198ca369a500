"""Is a server live, and is it ready? Judged from its vitals, so that any of its processes can tell, whichever hangs.

Live: nothing is stuck that only a restart would mend. Ready: clients that connect now are served. Neither asks whether
there are clients: a server without any is in good health, and a learner with nothing to do is not stuck.
"""

from __future__ import annotations

from dataclasses import dataclass

from seedbed.server.shared.vitals import Phase, VitalsTable

FRONTEND_BEAT_S = 0.25
"""How often a frontend shows that its event loop turns, and looks at the health of the others."""

_FRONTEND_LIMIT_S = 5.0  # a frontend's event loop never waits for anything: that long a silence is no load


@dataclass(frozen=True, slots=True)
class Health:
    """What is wrong, in words; nothing if all is well.

    Attributes:
        stuck: threads that have made no progress for too long though there was work.
        not_live: why only a restart would help: these, and what has failed.
        not_ready: why clients that connect now are not served.
    """

    stuck: tuple[str, ...]
    not_live: tuple[str, ...]
    not_ready: tuple[str, ...]

    @property
    def live(self) -> bool:
        """Whether a restart would not help."""
        return not self.not_live

    @property
    def ready(self) -> bool:
        """Whether clients that connect now are served."""
        return not self.not_ready


def examine(vitals: VitalsTable, limit_s: float, now_s: float) -> Health:
    """Judges a server.

    Args:
        vitals: of its processes.
        limit_s: how long inference, learner or main thread may make no progress while they have work.
        now_s: `time.monotonic()`, which all processes of a machine share.
    """
    phase = Phase(int(vitals.device["phase"]))
    stuck = [f"{what} for {age_s:.0f} s" for what, age_s in _ages(vitals, phase, now_s) if age_s > limit_s]
    not_live = [*stuck, "inference or learning has failed"] if phase is Phase.FAILED else list(stuck)
    not_ready = list(not_live)
    if phase in (Phase.STARTING, Phase.DRAINING):
        not_ready.append(phase.name.lower())
    if phase is Phase.SERVING:
        for number, frontend in enumerate(vitals.frontends):
            if now_s - frontend["tick_s"] > _FRONTEND_LIMIT_S:
                not_ready.append(f"frontend {number} does not answer")
    return Health(tuple(stuck), tuple(not_live), tuple(not_ready))


def learner_busy_s(vitals: VitalsTable, now_s: float) -> float:
    """How long the learner has had its present batch in hand; 0 while it has none."""
    taken_s = vitals.device["taken_s"]
    return now_s - taken_s if taken_s else 0.0


def _ages(vitals: VitalsTable, phase: Phase, now_s: float) -> list[tuple[str, float]]:
    """How long each thread that should make progress has made none."""
    device = vitals.device
    ages = [("the learner has finished no update", learner_busy_s(vitals, now_s))]
    if device["joined_s"]:
        ages.append(("the inference thread has been asked to end and has not", now_s - device["joined_s"]))
    if phase is Phase.SERVING:
        # While inference waits for the learner (its queue is full) an update is a sign of life of both. A learner that
        # does not take what is there shows here too.
        sign_s = max(device["turn_s"], device["update_s"] if device["hands_over"] else 0.0)
        ages.append(("the inference thread has not turned", now_s - sign_s))
        ages.append(("the main thread has not turned", now_s - device["tick_s"]))
    return ages
