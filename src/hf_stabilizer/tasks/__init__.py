"""What does a task make of its rows? From divided rows to what a model takes.

    task                  model                               labels
    text-classification   AutoModelForSequenceClassification  one class id, or 0.0 / 1.0 per class
    text-regression       AutoModelForSequenceClassification  one float
    multiple-choice       AutoModelForMultipleChoice          index of the right choice
    token-classification  AutoModelForTokenClassification     tag id of each word's first sub-token
    causal-lm             AutoModelForCausalLM                the row's own tokens
    masked-lm             AutoModelForMaskedLM                the tokens that are masked
    seq2seq               AutoModelForSeq2SeqLM               tokens of the target

Importing this package imports neither torch nor transformers; its functions do.
"""

from hf_stabilizer.tasks.preparation import TASKS, prepare_task
from hf_stabilizer.tasks.prepared import PreparedTask

__all__ = ["TASKS", "PreparedTask", "prepare_task"]
