"""Ways to train at equal budgets of tuning: the expected score of the best of k trials.

python -m experiments.budget                 # as `make budget`
python -m experiments.budget seeds=24..47    # on other seeds: runs/budget/seeds=24..47
python -m experiments.budget replot=true     # only judge and draw
"""

from experiments.budget.experiment import Budget
from experiments.lab.command_line import main

if __name__ == "__main__":
    main(Budget())
