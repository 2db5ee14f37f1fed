"""The width sweeps as a first look: small, and done within a minute.

python -m experiments.width_quick                  # n = 64 … 512, 50 steps: one minute
python -m experiments.width_quick replot=true      # only draw and judge
"""

from experiments.lab.command_line import main
from experiments.scaling.experiment import Scaling


class WidthQuick(Scaling):
    """Two sweeps over four widths, with few seeds."""

    name = "width_quick"


if __name__ == "__main__":
    main(WidthQuick())
