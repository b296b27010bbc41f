"""Which executor is meant by this name? Local workers, a cluster's, this process, or one's own.

    local        worker processes that live on, one to a GPU or core
    ray, dask    a cluster at an address, or one on this machine
    in-process   here, one run after the other

Imports no torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from importlib.util import find_spec

from hf_stabilizer.errors import (
    ConfigurationError,
    MissingDependencyError,
    check_choice,
    check_whole,
)
from hf_stabilizer.studies.executors.local_workers import LocalWorkers

EXECUTORS = ("local", "ray", "dask", "in-process")
_PACKAGES = {"ray": "ray", "dask": "distributed"}


@contextlib.contextmanager
def open_executor(
    executor: Executor | str | None, *, workers: int | None, address: str | None = None
) -> Iterator[Executor]:
    """Opens what a name stands for, and ends it with the block; one's own is left open.

    Where a run's worker is lost the study tries the run again, `course.ATTEMPTS` times in all;
    Ray and Dask themselves retry nothing.

    Args:
        executor: One of "local", "ray", "dask" and "in-process", None for "local", or any
            `concurrent.futures.Executor`, which is given back as it is.
        workers: Processes on this machine, 1 or more; None: one per GPU or core. Only where they
            are started here.
        address: Address of a running cluster, with "ray" and "dask"; None: one on this machine.

    Raises:
        ConfigurationError: An unknown name, or options that do not belong to it.
        MissingDependencyError: The engine is not installed.
        StudyError: There is no cluster at this address.

    Example:
        >>> with open_executor("in-proces", workers=None):
        ...     pass
        Traceback (most recent call last):
            ...
        hf_stabilizer.errors.ConfigurationError: executor must be one of local, ray, dask,
        in-process, got 'in-proces' (did you mean in-process?)
    """
    check_executor(executor, workers=workers, address=address)
    if isinstance(executor, Executor):
        yield executor
        return
    with _MAKERS[executor or "local"](workers, address) as pool:
        yield pool


def check_executor(
    executor: Executor | str | None, *, workers: int | None, address: str | None = None
) -> None:
    """Raises what `open_executor` would raise before it starts anything."""
    if workers is not None:
        check_whole(workers, "of processes from 1 up", name="workers", least=1)
    if isinstance(executor, Executor):
        if workers is not None:
            raise ConfigurationError("give an executor or a number of workers, not both")
    else:
        check_choice("local" if executor is None else executor, EXECUTORS, name="executor")
        _check_installed(executor)
    _check_address(executor, workers, address)


def _check_installed(executor: str | None) -> None:
    package = _PACKAGES.get(executor or "local")
    if package is not None and find_spec(package) is None:
        raise MissingDependencyError(
            f"executor {executor!r} needs the package {package!r}, which is not installed; "
            f"pip install 'hf_stabilizer[{executor}]'"
        )


def _check_address(executor: object, workers: int | None, address: str | None) -> None:
    if address is not None and not isinstance(address, str):
        raise ConfigurationError(
            f"address must be that of a cluster, in one text, got {address!r}; e.g. tcp://HOST:8786"
        )
    if address is not None and executor not in _PACKAGES:
        raise ConfigurationError(
            f"address {address!r} is that of a cluster; give executor 'ray' or 'dask' with it"
        )
    if workers is not None and (address is not None or executor == "in-process"):
        where = "the executor 'in-process'" if address is None else f"the cluster at {address!r}"
        raise ConfigurationError(
            f"{where} says itself how many runs it takes at a time; leave out workers={workers!r}"
        )


def _local(workers: int | None, address: str | None) -> Executor:
    return LocalWorkers(workers)


def _ray(workers: int | None, address: str | None) -> Executor:
    from hf_stabilizer.studies.executors.ray_executor import RayExecutor

    return RayExecutor(address=address, workers=workers)


def _dask(workers: int | None, address: str | None) -> Executor:
    from hf_stabilizer.studies.executors.dask_executor import DaskExecutor

    return DaskExecutor(address=address, workers=workers)


def _in_process(workers: int | None, address: str | None) -> Executor:
    from hf_stabilizer.studies.executors.in_process import InProcess

    return InProcess()


_MAKERS: dict[str, Callable[[int | None, str | None], Executor]] = {
    "local": _local,
    "ray": _ray,
    "dask": _dask,
    "in-process": _in_process,
}
