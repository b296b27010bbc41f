"""A text classification script as people have them: HfArgumentParser and the stock Trainer.

It follows transformers' own example for text classification (arguments in three dataclasses;
train, evaluate and predict; results and state saved by the Trainer's methods), on local CSV files
with the columns `text` and `label`. It knows nothing of this package.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import datasets
import numpy as np
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)


@dataclass
class ModelArguments:
    model_name_or_path: str = field(metadata={"help": "a local folder"})


@dataclass
class DataTrainingArguments:
    train_file: str | None = field(default=None, metadata={"help": "CSV"})
    validation_file: str | None = field(default=None, metadata={"help": "CSV"})
    test_file: str | None = field(default=None, metadata={"help": "CSV"})
    max_seq_length: int = field(default=32, metadata={"help": "longer texts are cut"})
    max_train_samples: int | None = field(default=None, metadata={"help": "the first rows only"})


def main(words: list[str] | None = None) -> None:
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    model_args, data_args, training_args = parser.parse_args_into_dataclasses(words)
    set_seed(training_args.seed)

    files = {
        "train": data_args.train_file,
        "validation": data_args.validation_file,
        "test": data_args.test_file,
    }
    raw = {
        split: datasets.Dataset.from_csv(path, keep_in_memory=True)
        for split, path in files.items()
        if path
    }
    labels = sorted(set(map(str, raw["train"]["label"])))
    config = AutoConfig.from_pretrained(model_args.model_name_or_path, num_labels=len(labels))
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_args.model_name_or_path, config=config
    )

    def preprocess(rows: dict[str, list[str]]) -> dict[str, list[object]]:
        result = tokenizer(rows["text"], max_length=data_args.max_seq_length, truncation=True)
        result["labels"] = [labels.index(str(label)) for label in rows["label"]]
        return result

    if data_args.max_train_samples is not None:
        raw["train"] = raw["train"].select(range(data_args.max_train_samples))
    rows = {
        split: part.map(preprocess, batched=True, remove_columns=["text", "label"])
        for split, part in raw.items()
    }

    def compute_metrics(p: EvalPrediction) -> dict[str, float]:
        answers = np.argmax(p.predictions, axis=1)
        return {"accuracy": float((answers == p.label_ids).mean())}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=rows["train"] if training_args.do_train else None,
        eval_dataset=rows.get("validation"),
        compute_metrics=compute_metrics,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    if training_args.do_train:
        result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        metrics = {**result.metrics, "train_samples": len(rows["train"])}
        trainer.save_model()
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()
    if training_args.do_eval:
        metrics = {**trainer.evaluate(), "eval_samples": len(rows["validation"])}
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    if training_args.do_predict:
        metrics = trainer.predict(rows["test"], metric_key_prefix="predict").metrics
        trainer.log_metrics("predict", metrics)
        trainer.save_metrics("predict", metrics)


if __name__ == "__main__":
    main(sys.argv[1:])
