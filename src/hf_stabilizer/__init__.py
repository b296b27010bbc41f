"""Stable fine-tuning with the stock Hugging Face Trainer, proven over seeds.

Every public name is importable from here and loaded when it is first used, so that
`import hf_stabilizer` costs neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from hf_stabilizer.errors import MissingDependencyError

__version__ = "0.1.0"

_WHERE = {
    "ConfigurationError": "errors",
    "CrossValidation": "folds.record",
    "DataError": "errors",
    "DataReport": "data_quality",
    "DivergenceError": "errors",
    "DivergenceGuardCallback": "divergence",
    "EMACallback": "averaging",
    "Ensemble": "ensembling",
    "EndpointGenerator": "synthesis",
    "EvaluationsPerEpochCallback": "evaluation",
    "Finding": "silent_mistakes",
    "GradualUnfreezingCallback": "freezing",
    "HeadFirstCallback": "freezing",
    "L1Callback": "regularization",
    "L2Callback": "regularization",
    "LayerDiscoveryError": "errors",
    "LayerMap": "layers",
    "LayerStatisticsCallback": "layer_statistics",
    "LocalGenerator": "synthesis",
    "MissingDependencyError": "errors",
    "Probe": "probe_record",
    "ReinitializationError": "errors",
    "ResumeError": "errors",
    "Run": "records",
    "SWACallback": "averaging",
    "Soup": "ensembling",
    "StabilizerArguments": "arguments",
    "StabilizerError": "errors",
    "Study": "studies.study",
    "StudyError": "errors",
    "ablate": "studies.ablations.ablating",
    "augment": "augmentation",
    "check_rows": "data_quality",
    "clean_rows": "data_quality",
    "compare_runs": "studies.runs_compared.comparing",
    "cosine_rates": "learning_rates",
    "create_cosine_lr_optimizer": "optimizers",
    "create_grouped_llrd_optimizer": "optimizers",
    "create_llrd_optimizer": "optimizers",
    "create_scheduler": "schedules",
    "cross_validate": "folds.validating",
    "ensemble": "ensembling",
    "export_model": "averaging",
    "fit_head": "head",
    "freeze_layers": "freezing",
    "further_pretrain": "pretraining",
    "greedy_soup": "ensembling",
    "grouped_rates": "learning_rates",
    "hand_over_body": "pretraining",
    "last_complete_checkpoint": "checkpoints",
    "layered_optimizer": "optimizers",
    "layerwise_decay": "learning_rates",
    "learning_rate_table": "rate_table",
    "markdown_summary": "studies.cards.markdown",
    "param_groups": "parameter_groups",
    "plot_learning_rates": "rate_table",
    "pooler_is_dead": "dead_pooler",
    "predict": "ensembling",
    "preflight": "silent_mistakes",
    "prepare_model": "arguments",
    "probe": "probing",
    "pseudo_label": "pseudo_labels.labelling",
    "read_runs": "studies.past_runs.reading",
    "reinitialize_layers": "reinitialization",
    "run_pseudo_labels": "pseudo_labels.running",
    "run_study": "studies.schedule",
    "scale_learning_rate": "learning_rates",
    "set_dropout": "dropout",
    "stabilize": "arguments",
    "sweep": "studies.sweeps.sweeping",
    "synthesize": "synthesis",
    "train": "run",
    "transfer_layers": "transfer",
    "uniform_soup": "ensembling",
    "write_model_card": "studies.cards.model_card",
    "write_report": "studies.page.report",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


def _require_transformers(minimum: str = "5.4") -> None:
    try:
        found = version("transformers")
    except PackageNotFoundError:
        found = "none"
    if found == "none" or Version(found) < Version(minimum):
        raise MissingDependencyError(
            f"hf_stabilizer needs transformers >= {minimum} and found {found}: before it, the "
            "Trainer does not save the best model of evaluations that a callback triggers; "
            "run: pip install -U 'transformers>=5.4,<6'"
        )


_require_transformers()
