"""Claims on work: which process is at something now, with neither locks nor clocks.

A claim is a file that only one process can make, since it must not be there yet; any file system
that several machines share knows that. While it is held it *beats*: what it says changes every few
seconds. It ends when its file is removed; when its process is known to have died, which the same
machine sees at once; or when somebody has seen no beat for a lease of *his own* time, so that no
two clocks are ever compared. Then the next generation of the same claim is there to be made.

Claims are a courtesy, so that processes share work. One that was only suspended for longer than a
lease goes on beside its successor: what both do must be the same, and be written whole.
"""

import contextlib
import glob
import itertools
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lora_theory.store.files import ResultsError, writing
from lora_theory.store.reading import parsed, regular

BEAT = 5.0  # Seconds between two beats.
LEASE = 60.0  # Seconds without a beat after which a claim is taken over.
_PATIENCE = 0.2  # Seconds between two looks at a claim that is waited for.
_LONG = 4096  # Bytes; no claim is longer.


class Claims:
    """The claims that a process makes, and what it has seen of others'.

    Args:
        lease: seconds without a beat after which a claim is taken over.
        beat: seconds between the beats of its own.
        clock: seconds that only grow; of this process alone.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "seed=0.claim"
    >>> with Claims().held(path) as mine, Claims().held(path) as too:
    ...     mine, too
    (True, False)
    """

    def __init__(
        self,
        lease: float | None = None,
        beat: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.lease, self.beat = lease or LEASE, beat or BEAT
        self._clock = clock
        self._seen: dict[Path, tuple[bytes, float]] = {}

    @contextlib.contextmanager
    def held(self, path: Path) -> Iterator[bool]:
        """Hold the claim while the block runs, if nobody else does: whether it is this process's.

        Raises:
            WriteError: the claim can not be made, as where its folder is gone.
        """
        if (taken := self._take(path)) is None:
            yield False
            return
        ended = threading.Event()
        beating = threading.Thread(
            target=self._keep_beating, args=(taken.handle, ended), daemon=True
        )
        try:
            beating.start()
            yield True
        finally:
            ended.set()
            if beating.is_alive():
                beating.join()
            taken.give_back()

    @contextlib.contextmanager
    def waited(self, path: Path, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the claim while the block runs, after whoever holds it now.

        Args:
            path: of the claim.
            waiting: told once, if it has to be waited for.

        Raises:
            WriteError: the claim can not be made.
        """
        for attempt in itertools.count():
            with self.held(path) as mine:
                if mine:
                    yield
                    return
            if attempt == 0:
                waiting()
            time.sleep(_PATIENCE)

    def _take(self, path: Path) -> "_Taken | None":
        """Make the first generation that is not there, if all before it are dead."""
        dead: dict[Path, bytes] = {}
        says = _says(0)
        while True:
            file = _generation(path, len(dead))
            with writing(file):
                handle = _made(file)
            if handle is not None:
                with contextlib.suppress(OSError):  # On a full disk it says nothing, and holds.
                    os.pwrite(handle, says, 0)
                taken = _Taken(file, handle, dead)
                if self._is_alone(path, taken):
                    return taken
                taken.give_back()
                return None
            content = read(file)
            if content is None:  # It has just been given back.
                continue
            if not self._is_dead(file, content):
                return None
            dead[file] = content

    def _is_alone(self, path: Path, taken: "_Taken") -> bool:
        """Whether what was seen dead is so still, and nobody holds a later generation: between two
        looks claims are given back, and made anew.
        """
        if any(read(file) != content for file, content in taken.dead.items()):
            return False
        later = _generation(path, len(taken.dead) + 1)
        content = read(later)
        return content is None or self._is_dead(later, content)

    def _is_dead(self, file: Path, content: bytes) -> bool:
        if owner_is_dead(content):
            return True
        now = self._clock()
        before, since = self._seen.get(file, (None, now))
        if before != content:
            self._seen[file] = content, now
            return False
        return now - since > self.lease

    def _keep_beating(self, handle: int, ended: threading.Event) -> None:
        for count in itertools.count(1):
            if ended.wait(self.beat):
                return
            with contextlib.suppress(OSError):  # Whoever can not be heard is taken over.
                os.pwrite(handle, _says(count), 0)
                os.fsync(handle)


class _Taken(NamedTuple):
    """A claim that this process holds.

    Attributes:
        file: of its generation.
        handle: of the open file.
        dead: the generations before it, and what they say.
    """

    file: Path
    handle: int
    dead: dict[Path, bytes]

    def give_back(self) -> None:
        """Remove it, after the dead ones before it: only then another may be made."""
        os.close(self.handle)
        for file, content in self.dead.items():
            if read(file) == content:
                with contextlib.suppress(OSError):
                    file.unlink()
        with contextlib.suppress(OSError):
            self.file.unlink()


@contextlib.contextmanager
def exclusive(path: str | Path, *, quiet: bool = True) -> Iterator[None]:
    """Hold the claim on a file that is to be written; a second run waits.

    Args:
        path: of the file.
        quiet: whether a second run says nothing of it.

    Raises:
        WriteError: the claim can not be made.
    """
    path = Path(path)

    def waiting() -> None:
        if not quiet:
            print(f"note: another run is writing {path}; waiting for it", file=sys.stderr)

    with Claims().waited(path.parent / f".{path.name}.claim", waiting):
        # Whoever holds the claim is the only writer: what is left here was left by a kill.
        for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            with contextlib.suppress(OSError):  # A folder is not ours.
                stale.unlink()
        yield


class Seen(NamedTuple):
    """A claim at one moment.

    Attributes:
        content: what it says; nothing if it can not be read.
        changed: when it last did, by the clock of the file server; −∞ if it can not be read.
    """

    content: bytes
    changed: float


def seen(file: Path) -> Seen | None:
    """A claim as it is now; None if it is not there."""
    try:
        with regular(file) as handle:  # Opened, so that no cache answers.
            return Seen(handle.read(_LONG), os.fstat(handle.fileno()).st_mtime)
    except FileNotFoundError:
        return None
    except ResultsError:
        return Seen(b"", -math.inf)


def read(file: Path) -> bytes | None:
    """What a claim says; nothing if it can not be read, None if it is not there."""
    found = seen(file)
    return None if found is None else found.content


def owner_is_dead(content: bytes) -> bool:
    """Whether the process of a claim was one of this machine, and is no more."""
    owner = owner_of(content)
    there = _machine()
    if there is None or owner.get("machine") != there:
        return False
    return _born(owner.get("process")) != owner.get("born")


def is_held(file: Path) -> bool:
    """Whether a claim is there whose process is not known to be dead."""
    content = read(file)
    return content is not None and not owner_is_dead(content)


def owner_of(content: bytes) -> dict[str, Any]:
    """Who holds a claim, as far as it says so: host, process."""
    try:
        found = parsed(content.decode())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _generation(path: Path, index: int) -> Path:
    return path.with_name(f"{path.name}{index}")


def _made(file: Path) -> int | None:
    """A new file, open; None if there is one."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(file, flags, 0o666)
    except FileExistsError:
        return None


def _says(count: int) -> bytes:
    """Always as long, so that a beat is written over the one before."""
    process = os.getpid()
    owner = {
        "host": os.uname().nodename,
        "process": process,
        "machine": _machine(),
        "born": _born(process),
        "beat": f"{count:012d}",
    }
    return json.dumps(owner).encode()


def _machine() -> str | None:
    """What a process number means something in: a machine since it started, a container in it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _born(process: Any) -> str | None:
    """When a process of this machine was started; None of one that is no more, or a zombie."""
    try:
        fields = Path(f"/proc/{int(process)}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError, TypeError):
        return None
    return None if fields[0] in "ZX" else fields[19]
