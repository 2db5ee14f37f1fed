"""A bar on stderr: work done, time left, and what is worth counting; nothing outside a terminal."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """Told how far the work is."""

    def __call__(self, units: int, marks: Mapping[str, int]) -> None:
        """`units` more are done; of them so many bear each mark, as "diverged"."""
        ...


@contextmanager
def progress(title: str, units: int) -> Iterator[Progress]:
    """Show a bar while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shares]}"),
    )
    done, marked = Counter[str](), Counter[str]()
    with Bar(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=units, shares="")

        def advance(units: int, marks: Mapping[str, int]) -> None:
            done["units"] += units
            marked.update(marks)
            shares = ", ".join(f"{n / done['units']:.0%} {name}" for name, n in marked.items())
            bar.update(task, advance=units, shares=shares)

        yield advance
