"""The width sweeps with all seeds, inits and ranks; parts of an hour at most, run one by one.

python -m experiments.width_all                            # all of it: two and a quarter hours
python -m experiments.width_all 'part=[layer_adam]'        # one part
"""

from experiments.lab.command_line import main
from experiments.scaling.experiment import Scaling


class WidthAll(Scaling):
    """Every sweep with the seeds that narrow intervals take."""

    name = "width_all"


if __name__ == "__main__":
    main(WidthAll())
