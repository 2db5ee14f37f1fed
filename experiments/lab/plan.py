"""What a run would take, before it: pieces, core-hours, bytes, memory, time; nothing is started."""

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from experiments.lab import folders as places
from experiments.lab.folders import Folders
from experiments.lab.memory import cores
from experiments.lab.origin import There, finished, there
from experiments.lab.values import in_bytes, in_time
from experiments.lab.workers import Record, records

if TYPE_CHECKING:
    from experiments.lab.experiment import Experiment, Part

C = TypeVar("C")
P = TypeVar("P", bound=Hashable)
R = TypeVar("R")


class Estimate(NamedTuple):
    """What is left to do of a part.

    Attributes:
        pieces, units: how many there are in all.
        done: pieces that are on disk already.
        core_seconds: of one core, of the others; None for unknown.
        seconds: of one process, of the others; None for unknown.
        longest: seconds of one process of the longest piece.
        bytes: of the results; None for unknown.
        measured: how many pieces were timed in this folder; 0 where a model says what they take.
    """

    pieces: int
    units: int
    done: int
    core_seconds: float | None
    seconds: float | None
    longest: float
    bytes: int | None
    measured: int

    @classmethod
    def total(cls, all_of: "Sequence[Estimate]") -> "Estimate":
        """What is left to do of several."""
        return cls(
            sum(each.pieces for each in all_of),
            sum(each.units for each in all_of),
            sum(each.done for each in all_of),
            _sum([each.core_seconds for each in all_of]),
            _sum([each.seconds for each in all_of]),
            max((each.longest for each in all_of), default=0.0),
            _sum([each.bytes for each in all_of]),
            sum(each.measured for each in all_of),
        )

    def words(self) -> str:
        """On one line."""
        left = f" ({self.done} of them done)" if self.done else ""
        units = f", {self.units} units" if self.units != self.pieces else ""
        work = "core-hours unknown"
        if self.core_seconds is not None:
            hours = self.core_seconds / 3600
            work = f"{hours:.0f} core-hours" if hours >= 10 else f"{hours:.2g} core-hours"
        if self.measured:
            work += f" (as {_count(self.measured, 'piece')} took here)"
        size = "bytes of results unknown"
        if self.bytes is not None:
            size = f"{in_bytes(self.bytes)} of results"
        return f"{_count(self.pieces, 'piece')}{left}{units}; {work}; {size}"

    def time(self, jobs: int) -> float | None:
        """Seconds that so many processes take: never less than the longest piece."""
        return None if self.seconds is None else max(self.seconds / jobs, self.longest)


def plan_of(experiment: "Experiment[C, P, R]", cfg: C, folders: Folders) -> list[str]:
    """What a run of this config would take, as lines; makes nothing and starts nothing.

    Raises:
        ConfigError: the config can not be run.
        ResultsError: saved results are damaged or of another config.
    """
    lines, estimates = [], []
    for part in experiment.plan(cfg):
        path = folders.results / f"{part.name}{experiment.suffix}"
        if finished(experiment, part, cfg, path):
            lines.append(f"{part.name}: done")
            continue
        estimates.append(_estimate(experiment, part, cfg, there(experiment, part, cfg, path)))
        lines.append(f"{part.name}: {estimates[-1].words()}")
    total = Estimate.total(estimates)
    lines.append(f"total: {total.words()}" if estimates else "total: nothing to compute")
    if not estimates:
        return [_heading(experiment, folders), *lines]
    if total.bytes:
        lines.append(f"while it runs: about {in_bytes(2 * total.bytes)}, of pieces and results")
    needs = sum(need.bytes for need in experiment.memory(cfg))
    held = f"{in_bytes(needs)} of arrays at least, and about half a GiB of Python and JAX"
    held = held if needs else "unknown"
    lines.append(f"memory of one process: {held}")
    jobs: int = cfg.jobs  # type: ignore[attr-defined]
    time = total.time(jobs)
    on = "" if total.measured else f" on CPUs, of {_count(cores(), 'core')} each"
    said = "unknown" if time is None else f"about {in_time(time)}, starting and drawing aside"
    lines.append(f"with jobs={jobs}{on}: {said}")
    return [_heading(experiment, folders), *lines]


def _heading(experiment: "Experiment[Any, Any, Any]", folders: Folders) -> str:
    return f"plan of {experiment.name}, for {places.shown(folders.results)} (nothing is started)"


def _estimate(
    experiment: "Experiment[C, P, R]", part: "Part[P]", cfg: C, begun: Sequence[There[C, P]]
) -> Estimate:
    """What is left of a part, by what its pieces took here, or else by the model."""
    layout, done, timed = experiment.layout(part, cfg), set[str](), Record("", 0, "")
    if begun:
        furthest = max(begun, key=lambda at: len(at.done))
        cfg, part, done = furthest.cfg, furthest.part, furthest.done
        timed = sum(records(furthest.store.folder), timed)
    left = [piece for name, piece in part.pieces.items() if name not in done]
    work, expects = weights(experiment, left, cfg)
    each = _of_one(timed, expects)
    return Estimate(
        len(part.pieces),
        sum(map(experiment.units, part.pieces.values())),
        len(done),
        each and each[0] * sum(work),
        each and each[1] * sum(work),
        each[1] * max(work, default=0.0) if each else 0.0,
        layout and layout.bytes(),
        timed.pieces,
    )


def weights(
    experiment: "Experiment[C, P, R]", pieces: Iterable[P], cfg: C
) -> tuple[list[float], bool]:
    """How much work each piece is: core-seconds, where a model says so of all; units otherwise.

    Returns:
        The weights, and whether they are core-seconds.
    """
    pieces = list(pieces)
    model = [experiment.core_seconds(piece, cfg) for piece in pieces]
    known = [seconds for seconds in model if seconds is not None]
    if len(known) == len(model):
        return known, True
    return [float(experiment.units(piece)) for piece in pieces], False


def _of_one(timed: Record, expects: bool) -> tuple[float, float] | None:
    """Core-seconds, and seconds of a process, for a weight of 1; None for unknown."""
    if work := timed.expected if expects else float(timed.units):
        return timed.core_seconds / work, timed.seconds / work
    return (1.0, 1 / cores()) if expects else None


def _sum(values: "Sequence[Any]") -> Any:
    """None where one of them is."""
    return None if None in values else sum(values)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
