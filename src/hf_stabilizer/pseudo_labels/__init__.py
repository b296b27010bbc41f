"""More rows to learn from, labelled by models that are sure of them, and whether that helped.

    pseudo_label                 teachers and unlabelled rows in, labelled rows with provenance out
    running.run_pseudo_labels    teachers, labels, students against their control over seeds

The second imports the Trainer, this package does not.
"""

from __future__ import annotations

from hf_stabilizer.pseudo_labels.labelling import pseudo_label

__all__ = ["pseudo_label"]
