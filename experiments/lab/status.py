"""How far a run is, asked from any shell: what is done of each part, who is at it, what failed.

Read from the files that processes leave in their shared folder, while they come and go. No two
clocks are compared: how old a beat is, the file server says, whose time a new file bears.
"""

import itertools
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from experiments.lab import folders as places
from experiments.lab.folders import Folders
from experiments.lab.origin import There, finished, there
from experiments.lab.plan import weights
from experiments.lab.values import in_time
from experiments.lab.workers import STOPPED, Record, records
from lora_theory.store import claims

if TYPE_CHECKING:
    from experiments.lab.experiment import Experiment

C = TypeVar("C")
P = TypeVar("P", bound=Hashable)
R = TypeVar("R")
Owner = tuple[str, int]  # Host, and number of a process there.

_APART = 2 * claims.BEAT  # Seconds between two looks where the file server's time can not be had.
_SHOWN = 3  # Pieces that are named of one process.
_LETTERS = 80  # Of their names.


class Claim(NamedTuple):
    """A claim as it was seen.

    Attributes:
        owner: who holds it.
        dead: whether it was a process of this machine, and is no more.
        silent: whether it has not beaten for a lease.
    """

    owner: Owner
    dead: bool
    silent: bool

    @property
    def runs(self) -> bool:
        """Whether somebody is at the piece."""
        return not (self.dead or self.silent)


class State(NamedTuple):
    """A part on one backend.

    Attributes:
        title: its name, and where there are several, the backend.
        total: how many pieces it has.
        done: how many of them are on disk.
        left: weight of the others.
        expects: whether weights are core-seconds; they are units otherwise.
        claims: piece -> who is at it.
        said: who -> what he has done.
    """

    title: str
    total: int
    done: int
    left: float
    expects: bool
    claims: Mapping[str, Claim]
    said: Mapping[Owner, Record]

    @property
    def running(self) -> set[Owner]:
        """Who is at a piece."""
        return {claim.owner for claim in self.claims.values() if claim.runs}

    @property
    def failed(self) -> set[Owner]:
        """Who ended in an error, or died of none that he could say."""
        errors = {who for who, at in self.said.items() if at.error not in ("", STOPPED)}
        died = {claim.owner for claim in self.claims.values() if claim.dead}
        return (errors | died) - self.running

    def time_left(self) -> float | None:
        """Seconds, if all who run go on as before; who has finished nothing yet, as the others."""
        rates = {who: speed for who, at in self.said.items() if (speed := self._speed(at))}
        if not rates or not self.running:
            return None
        mean = sum(rates.values()) / len(rates)
        return self.left / sum(rates.get(who, mean) for who in self.running)

    def _speed(self, at: Record) -> float | None:
        """Weight a second."""
        done = at.expected if self.expects else float(at.units)
        return done / at.seconds if done and at.seconds else None

    def line(self) -> str:
        """The part on one line."""
        running = sum(claim.runs for claim in self.claims.values())
        line = f"{self.title}: {self.done} of {self.total} pieces done, {running} running"
        line += f", {len(self.failed)} failed"
        if self.done == self.total:
            return f"{line}; results are being put together, or drawn"
        if not self.running:
            return f"{line}; nobody is at it"
        left = self.time_left()
        return f"{line}; time left {'unknown' if left is None else f'about {in_time(left)}'}"


def status_of(experiment: "Experiment[C, P, R]", cfg: C, folders: Folders) -> list[str]:
    """How far the work on a config is, as lines; starts nothing.

    Raises:
        ConfigError: the config can not be run.
        ResultsError: saved results are damaged or of another config.
    """
    lines: dict[str, str] = {}
    begun: dict[str, There[C, P]] = {}
    started = False
    for part in experiment.plan(cfg):
        path = folders.results / f"{part.name}{experiment.suffix}"
        if finished(experiment, part, cfg, path):
            lines[part.name] = f"{part.name}: done"
            started = True
            continue
        found = there(experiment, part, cfg, path)
        found = [at for at in found if at.done or at.claims or records(at.store.folder)]
        # Between the two looks the last piece may have been done, and all of them removed.
        ended = not found and finished(experiment, part, cfg, path)
        started = started or ended or bool(found)
        if not found:
            said = "done" if ended else f"not begun, {len(part.pieces)} pieces"
            lines[part.name] = f"{part.name}: {said}"
        for at in found:
            title = part.name if len(found) == 1 else f"{part.name} on {_versions(at, found)}"
            lines[title], begun[title] = "", at
    where = places.shown(folders.results)
    if not started:
        return [f"nothing has been started in {where} (jobs that wait in a queue are not seen)"]
    files = [file for at in begun.values() for file in at.claims.values()]
    seen = look(files, folders.results)
    states = [_state(experiment, title, at, seen) for title, at in begun.items()]
    lines |= {state.title: state.line() for state in states}
    return [f"status of {experiment.name} in {where}", *lines.values(), *_processes(states)]


def _state(
    experiment: "Experiment[C, P, R]", title: str, at: There[C, P], seen: Mapping[Path, Claim]
) -> State:
    said: dict[Owner, Record] = {}
    for record in records(at.store.folder):
        who = (record.host, record.process)
        said[who] = said[who] + record if who in said else record
    left = [piece for name, piece in at.part.pieces.items() if name not in at.done]
    work, expects = weights(experiment, left, at.cfg)
    held = {name: seen[file] for name, file in at.claims.items() if file in seen}
    held = {name: claim for name, claim in held.items() if name not in at.done}
    return State(title, len(at.part.pieces), len(at.done), sum(work), expects, held, said)


def _versions(at: There[Any, Any], all_of: Sequence[There[Any, Any]]) -> str:
    """In what the versions of one differ from those of the others: the backend, as a rule."""
    every = [each.store.provenance.versions for each in all_of]
    keys = dict.fromkeys(key for versions in every for key in versions)
    names = [key for key in keys if len({versions.get(key) for versions in every}) > 1]
    mine = at.store.provenance.versions
    said = {name: mine.get(name, "none") for name in names}
    return ", ".join(v if name == "backend" else f"{name} {v}" for name, v in said.items())


def look(files: Iterable[Path], folder: Path) -> dict[Path, Claim]:
    """Who holds claims now; of those that go meanwhile nothing.

    Args:
        files: the claims.
        folder: on the same file server.
    """
    first = {file: seen for file in files if (seen := claims.seen(file)) is not None}
    if not first:
        return {}
    now = server_time(folder)
    if now is None:
        time.sleep(_APART)
        again = {file: seen for file in first if (seen := claims.seen(file)) is not None}
        silent = {file: again[file].content == first[file].content for file in again}
    else:
        silent = {file: now - seen.changed > claims.LEASE for file, seen in first.items()}
    return {file: _claim(first[file].content, silent[file]) for file in silent}


def _claim(content: bytes, silent: bool) -> Claim:
    owner = claims.owner_of(content)
    host, process = owner.get("host"), owner.get("process")
    who = str(host or "an unknown machine"), process if isinstance(process, int) else 0
    return Claim(who, claims.owner_is_dead(content), silent)


def server_time(folder: Path) -> float | None:
    """What the clock of a folder's file server says; None if the folder can not be written.

    Not in the folder of the pieces, which could not be removed meanwhile.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b".")
            file.flush()
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _processes(states: Sequence[State]) -> list[str]:
    """A line for each process that is at something, is silent, or failed; one for all others."""
    runs, dead, silent = (defaultdict[Owner, list[str]](list) for _ in range(3))
    said: dict[Owner, Record] = {}
    for state in states:
        for name, claim in state.claims.items():
            those = runs if claim.runs else dead if claim.dead else silent
            those[claim.owner].append(f"{state.title} {name}")
        for who, record in state.said.items():
            said[who] = said[who] + record if who in said else record
    lines, quiet = [], 0
    for who in sorted({*said, *runs, *dead, *silent}):
        record = said.get(who, Record(*who, job=""))
        if who in runs:
            how = f"is at {_some(runs[who])}"
        elif record.error == STOPPED:
            how = STOPPED
        elif record.error:
            how = f"failed: {record.error}"
        elif who in dead:
            how = f"died at {_some(dead[who])}"
        elif who in silent:
            how = f"silent (dead, or its machine gone), was at {_some(silent[who])}"
        else:
            quiet += 1
            continue
        job = f" (job {record.job})" if record.job else ""
        lines.append(f"{who[0]}, process {who[1]}{job}: {how}{_has_done(record)}")
    if quiet:
        lines.append(f"at no piece now: {quiet} other{'' if quiet == 1 else 's'}")
    return lines


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    short = (name if len(name) <= _LETTERS else f"{name[:_LETTERS]}…" for name in sorted(names))
    return "; ".join(itertools.islice(short, _SHOWN)) + more


def _has_done(record: Record) -> str:
    pieces = "1 piece" if record.pieces == 1 else f"{record.pieces} pieces"
    return f" ({pieces} done in {in_time(record.seconds)})" if record.pieces else ""
