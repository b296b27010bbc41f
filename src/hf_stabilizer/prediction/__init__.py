"""What does a model that was trained here put out for these rows? In the order of the rows.

    folder --read_member--> Member --predict_rows(rows)--> outputs, float32 [rows, classes]
                                     words_of              outputs of each word
                                     texts_of              what it writes
                                     losses_of             how surprised it is

The folder says everything else: task and columns are in the run's configuration, the classes in
the model's. Rows need no label. They are batched as the Trainer batches those of an evaluation,
the longest first, and put back.

Importing this package imports neither torch nor transformers; its functions do.
"""

from hf_stabilizer.member import Member, read_member, read_names
from hf_stabilizer.prediction.columns import checked_cells, checked_texts, columns_of
from hf_stabilizer.prediction.loading import loaded
from hf_stabilizer.prediction.losses import losses_of
from hf_stabilizer.prediction.numbers import outputs_of, predict_rows
from hf_stabilizer.prediction.texts import texts_of
from hf_stabilizer.prediction.tokenising import TASKS, tokenise
from hf_stabilizer.prediction.words import UNREAD, words_of

__all__ = [
    "TASKS",
    "UNREAD",
    "Member",
    "checked_cells",
    "checked_texts",
    "columns_of",
    "loaded",
    "losses_of",
    "outputs_of",
    "predict_rows",
    "read_member",
    "read_names",
    "texts_of",
    "tokenise",
    "words_of",
]
