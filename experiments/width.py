"""How the landscape over (η_A, η_B) moves with the width n: sweeps on one raw grid of rates.

python -m experiments.width                        # all sweeps
python -m experiments.width 'part=[two_layer]'     # one of them
python -m experiments.width first_seed=1000        # other seeds, in a folder of their own
python -m experiments.width replot=true            # only draw and judge
"""

from experiments.lab.command_line import main
from experiments.scaling.experiment import Scaling


class Width(Scaling):
    """Every sweep, small enough for one machine."""

    name = "width"


if __name__ == "__main__":
    main(Width())
