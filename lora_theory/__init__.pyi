from lora_theory.adapters.labels import lora_labels as lora_labels
from lora_theory.adapters.layer import LoRA as LoRA
from lora_theory.adapters.lora_plus import lora_plus as lora_plus
from lora_theory.data.synthetic import linear_task as linear_task
from lora_theory.data.synthetic import sine_task as sine_task
from lora_theory.models.toys import FeatureLayerToy as FeatureLayerToy
from lora_theory.models.toys import LayerToy as LayerToy
from lora_theory.models.toys import LinearToy as LinearToy
from lora_theory.models.toys import TwoLayerToy as TwoLayerToy
from lora_theory.stats.slopes import Table as Table
from lora_theory.store.dataset import Results as Results
from lora_theory.store.dataset import open_dataset as open_dataset
from lora_theory.store.files import write_csv as write_csv
from lora_theory.theory.exponents import Rule as Rule
from lora_theory.theory.exponents import classify as classify
from lora_theory.theory.exponents import derive as derive
from lora_theory.theory.exponents import efficient as efficient
from lora_theory.theory.exponents import shared as shared
from lora_theory.theory.exponents import solve as solve
from lora_theory.theory.rules import LAYER_SIGN as LAYER_SIGN
from lora_theory.theory.rules import LINEAR_GD as LINEAR_GD
from lora_theory.theory.rules import TWO_LAYER_GD as TWO_LAYER_GD
from lora_theory.train.coordinates import coordinate_check as coordinate_check
from lora_theory.train.coordinates import deltas as deltas
from lora_theory.train.keys import seed_key as seed_key
from lora_theory.train.sweep import sweep_cells as sweep_cells

__version__: str
