"""One run of fine-tuning as people write it today: the stock Trainer and nothing of this package.

    for s in 1 2 3 4 5 6 7 8; do python plain_script.py --seed $s --output_dir runs/$s ...; done

It is what `study_speed.py` races a study against. It pads each batch to its longest row and keeps
the best weights alone, which many scripts do not; each of the two saves it time. With `--usual` it
imports `evaluate` and writes a whole checkpoint at every look, as the examples of transformers and
`load_best_model_at_end` have people do; it computes the same.
"""

import argparse

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--train_file", required=True)
parser.add_argument("--validation_file", required=True)
parser.add_argument("--test_file", required=True)
parser.add_argument("--output_dir", required=True)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--usual", action="store_true")
options = parser.parse_args()
if options.usual:
    import evaluate  # noqa: F401

set_seed(options.seed)
files = {s: getattr(options, f"{s}_file") for s in ("train", "validation", "test")}
data = load_dataset("csv", data_files=files)
tokenizer = AutoTokenizer.from_pretrained(options.model)
model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=2)
data = data.map(lambda rows: tokenizer(rows["text"], truncation=True, max_length=64), batched=True)

trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir=options.output_dir,
        seed=options.seed,
        data_seed=options.seed,
        learning_rate=2e-4,
        per_device_train_batch_size=16,
        num_train_epochs=3,
        eval_strategy="steps",
        eval_steps=4,
        eval_delay=12,
        save_strategy="steps" if options.usual else "best",
        save_steps=4,
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        dataloader_pin_memory=False,
    ),
    train_dataset=data["train"],
    eval_dataset=data["validation"],
    data_collator=DataCollatorWithPadding(tokenizer),
    processing_class=tokenizer,
    compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())},
)
trainer.train()
found = trainer.predict(data["test"], metric_key_prefix="test")
trainer.save_metrics("test", found.metrics)
trainer.save_model()
trainer.save_state()
np.savez(f"{options.output_dir}/predictions.npz", test=found.predictions, labels=found.label_ids)
