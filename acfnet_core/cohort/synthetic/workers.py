"""Work on patients in several processes, in the patients' order."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from acfnet_core.errors import MachineError
from acfnet_core.files import describe_os_error


def work_in_order(
    work: Callable[[int], int], numbers: Sequence[int], *, num_workers: int
) -> Iterator[int]:
    """Call `work` with each number; yield what it returns, in the numbers' order.

    Args:
        work: With more than one worker, something that another process can import.
        numbers: At least one.
        num_workers: Processes; with 1, this one does it.
    """
    if num_workers == 1:
        yield from map(work, numbers)
        return
    # A fresh process inherits no threads or open sockets of the one that asks.
    pool = ProcessPoolExecutor(
        min(num_workers, len(numbers)),
        mp_context=multiprocessing.get_context("spawn"),
    )
    try:
        futures = [pool.submit(work, number) for number in numbers]
        for future in futures:
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def described_errors(folder: Path) -> Iterator[None]:
    """Turn what can go wrong while files are written into errors for people.

    Raises:
        MachineError: The disk is full, or a process ended unexpectedly.
    """
    try:
        yield
    except OSError as error:
        raise describe_os_error(error, folder) from error
    except BrokenProcessPool as error:
        raise MachineError(
            "machine.process_died",
            f"{folder}: a process that wrote the made-up images ended unexpectedly.",
            remedy="Check the free memory, remove the folder and repeat the command.",
        ) from error
