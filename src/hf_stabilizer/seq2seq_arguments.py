"""Which options has a run that writes texts? Those of every run, and how evaluations generate."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from transformers import Seq2SeqTrainingArguments

from hf_stabilizer.arguments import StabilizerArguments


@dataclass
class StabilizerSeq2SeqArguments(StabilizerArguments, Seq2SeqTrainingArguments):
    """`StabilizerArguments` for transformers' `Seq2SeqTrainer`, which generates to evaluate.

    Raises:
        ConfigurationError: As `StabilizerArguments`.

    Example:
        >>> args = StabilizerSeq2SeqArguments("out", layer_lr="llrd", generation_num_beams=4)
        >>> args.predict_with_generate, args.generation_num_beams
        (True, 4)
    """

    predict_with_generate: bool = field(
        default=True,
        metadata={"help": "Generate in evaluations, as the metrics of texts need; true."},
    )
    # The parent also takes an object, which no file can say.
    generation_config: str | None = field(
        default=None,
        metadata={"help": "Folder, file or Hub id of a generation configuration."},
    )


GENERATION_KEYS = frozenset(
    f.name for f in fields(StabilizerSeq2SeqArguments) if f.init
) - frozenset(f.name for f in fields(StabilizerArguments))
"""Configuration keys for seq2seq alone."""
