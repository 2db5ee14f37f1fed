"""x"""
from experiments.lab.experiment import Report
def of_sweep(name, data, cfg, prefix):
    return Report([str(data)])
