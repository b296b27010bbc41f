"""Where does a study lie whose folder is a URL? At the URL; every machine works in a mirror of it.

    s3://BUCKET/NAME    the truth: study.json, events.jsonl, data/, runs/RECIPE/SEEDS/...
         ^     |
    push |     | pull
         |     v
    mirror of the study    all but the weights: a run's folder holds empty `model/`, `checkpoint-N/`
    mirror of a worker     the rows, and the run that it works on, whole, until it is over

What is written when: the study writes what it has changed after every event, a worker writes its
run's folder once its part of the run is over, each time with `run.json` and `halted.json` last. So
what is at the URL can be gone on with at any time, from any machine; a part of a run that was cut
off begins anew. The weights stay at the URL.

URLs are those of fsspec: s3://, gs://, az://, sftp://, ..., each with its own package, which brings
the credentials along. Two studies on one URL are told from one another on one machine only.
"""

from hf_stabilizer.studies.executors.remote.carrying import CarryingExecutor, check_reachable
from hf_stabilizer.studies.executors.remote.folder import RemoteFolder, is_url
from hf_stabilizer.studies.executors.remote.mirror import StudyMirror, open_mirror, send_file

__all__ = [
    "CarryingExecutor",
    "RemoteFolder",
    "StudyMirror",
    "check_reachable",
    "is_url",
    "open_mirror",
    "send_file",
]
