"""A Hydra program that fails at x=0."""

import hydra
from omegaconf import OmegaConf


@hydra.main(version_base="1.3", config_path=None)
def main(cfg):
    return 1 / OmegaConf.to_container(cfg)["x"]


if __name__ == "__main__":
    main()
