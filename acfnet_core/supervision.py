"""Keeping processes running through the night: what ends is started again.

A process that ends is started again after a pause that grows while it keeps ending. One
that ends many times in a row, never having run for long, will not run the next time
either: then the whole program ends, with the last words of that process's log named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep

from acfnet_core.processes import WATCH_S, Child, check_alive, stop_children

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""Who has run this long is not failing in a row."""
MAX_FAILURES = 10

Tell = Callable[[str], None]


@dataclass
class Service:
    """One process that is kept running.

    Args:
        start: Starts it.
        child: It, as it runs now.
    """

    start: Callable[[], Child]
    child: Child
    num_failures: int = 0
    started: float = field(default_factory=monotonic)
    due: float | None = None
    """When it is to be started again; None while it runs."""


class Supervisor:
    """Keeps services running.

    Args:
        tell: Takes a line for the operator when something was started again.
    """

    def __init__(self, *, tell: Tell) -> None:
        self.services: list[Service] = []
        self._tell = tell

    @property
    def children(self) -> Sequence[Child]:
        """The processes as they run now."""
        return [service.child for service in self.services]

    def add(self, start: Callable[[], Child]) -> Child:
        """Start a service and keep it running from now on."""
        service = Service(start=start, child=start())
        self.services.append(service)
        return service.child

    def tend(self) -> None:
        """Start again what has ended and whose pause is over.

        Raises:
            MachineError: `machine.process_died`: it ended too many times in a row.
        """
        for service in self.services:
            if service.due is not None:
                if monotonic() >= service.due:
                    self._start(service)
            elif service.child.has_ended:
                self._note_end(service)

    def watch(self, also: Callable[[], None] = lambda: None) -> None:
        """Tend the services for ever, and do `also` each time.

        Raises:
            MachineError: `machine.process_died`.
        """
        while True:
            self.tend()
            also()
            sleep(WATCH_S)

    def stop(self) -> None:
        """End all services."""
        stop_children(self.children)

    def _note_end(self, service: Service) -> None:
        if monotonic() - service.started > STEADY_S:
            service.num_failures = 0
        service.num_failures += 1
        if service.num_failures > MAX_FAILURES:
            check_alive([service.child])
        # What it has left running would hold ports and sockets.
        stop_children([service.child])
        pause_s = min(FIRST_PAUSE_S * 2 ** (service.num_failures - 1), LONGEST_PAUSE_S)
        service.due = monotonic() + pause_s
        child = service.child
        self._tell(
            f"{child.name} ended with status {child.process.returncode}; "
            f"it is started again in {pause_s:.0f} s. Its log: {child.log_file}"
        )

    def _start(self, service: Service) -> None:
        service.child = service.start()
        service.started, service.due = monotonic(), None
