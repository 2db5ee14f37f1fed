"""Ways to train at equal budgets of tuning: `make budget`."""
