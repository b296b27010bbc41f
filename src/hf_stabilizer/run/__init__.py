"""What is one run? A configuration, rows and three seeds in; a model and a record out.

    configuration --building--> Trainer --training--> weights, outputs, record
                                            |
                                         writing

OUTPUT_DIR/configuration.yaml    what was run, resolved
OUTPUT_DIR/model/                the weights that validation chose, and the tokenizer
OUTPUT_DIR/run.json              the record
OUTPUT_DIR/predictions.npz       what these weights put out for validation and test rows
OUTPUT_DIR/traceback.txt         where it failed, if it did
"""

from hf_stabilizer.run.building import (
    LEVELS,
    ON_TRIAL,
    assemble,
    build_trainer,
    check,
    heed,
    load_parts,
    prepare_data,
)
from hf_stabilizer.run.part import Part
from hf_stabilizer.run.training import carry_out, drop_needless_checkpoints, execute, train
from hf_stabilizer.run.writing import record_failure, write_configuration

__all__ = [
    "LEVELS",
    "ON_TRIAL",
    "Part",
    "assemble",
    "build_trainer",
    "carry_out",
    "check",
    "drop_needless_checkpoints",
    "execute",
    "heed",
    "load_parts",
    "prepare_data",
    "record_failure",
    "train",
    "write_configuration",
]
