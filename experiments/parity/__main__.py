"""`lora_plus` beside the official optimizer: trains with both, and stores what PyTorch gave.

python -m experiments.parity       # as `make parity`: figures/parity.json, .png, .pdf
python -m experiments.parity check # nothing is stored; the stored is compared as well

It needs the extra `peers`. Exit status 1: something disagrees.
"""

import sys

from experiments.lab.errors import one_line_errors
from experiments.lab.schema import ConfigError
from experiments.parity import report, setting, stored
from lora_theory.plots.style import save


def main() -> int:
    """The command."""
    asked = sys.argv[1:]
    if asked not in ([], ["check"]):
        raise ConfigError("parity", "must be followed by nothing or check", " ".join(asked))
    try:
        official = stored.measured()
    except ImportError as error:
        wanted = "must be installed, as pip install -e '.[experiments,peers]' does"
        raise ConfigError("peers", wanted, str(error)) from None
    rows = report.compared(official.runs)
    print("\n".join(report.lines(rows, official.versions)))
    rounded = report.single(official.runs)
    print(f"In float32 losses are {rounded.losses.max():.1e} and moves {rounded.moved:.1e} apart.")
    fine = all(row.as_wanted for row in rows)
    if asked:
        return 0 if same(official) and fine else 1
    if not fine:
        print("nothing is stored, since something disagrees")
        return 1
    stored.save(official)
    figure = save(report.picture(rows, official.versions), stored.FILE.with_suffix(""), dpi=200)
    print("files:", ", ".join(path.name for path in (stored.FILE, *figure)))
    return 0


def same(official: stored.Official) -> bool:
    """Whether PyTorch does what is stored, which is said."""
    kept = stored.load()
    furthest = max(
        setting.apart(run, kept.runs[name])[0].max() for name, run in official.runs.items()
    )
    groups = official.groups == kept.groups
    print(f"Stored, of {kept.versions}: curves {furthest:.1e} apart, groups {groups}")
    return groups and furthest < 1e-9


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
