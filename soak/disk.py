"""Full disks, of the server and of a site: said clearly, and nothing is lost.

    OMP_NUM_THREADS=1 python soak/disk.py --write FILE.md     (as root: it mounts tmpfs)

The coordinator's folder and a site's folder lie on small disks of their own. In the
middle of a run one is filled to the last byte, kept full for a while and freed, then
the other. The run must end with the parameters of one that nothing disturbed.
"""

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from consortium import consortium, describe_machine, parameters_after

from acf_server.run_events import read_events
from acf_server.run_files import read_run
from acfnet_core.federation.checkpoint import completed_rounds

DISK_MIB = 512
TIMEOUT_S = 3600.0
FILLER = "filler"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of some megabytes."""
    folder.mkdir(parents=True)
    subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)],
        check=True,
    )
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Fill a disk to the last byte for the length of the block."""
    path = folder / FILLER
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    try:
        yield
    finally:
        path.unlink()


def play(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Yield the lines of the page."""
    with ExitStack() as stack:
        server_disk = stack.enter_context(small_disk(folder / "coordinator"))
        site_disk = stack.enter_context(small_disk(folder / "sites" / "site-00"))
        made = stack.enter_context(consortium(folder, num_sites=2))
        calm = made.begin_run("calm", rounds=options.rounds)
        made.wait_for_run(calm, timeout_s=TIMEOUT_S)
        run = made.begin_run("full", rounds=options.rounds)
        third = options.rounds // 3
        made.wait_for_round(run, third, timeout_s=TIMEOUT_S)
        with filled(server_disk):
            before = max(completed_rounds(run))
            made.keep(options.full)
            after = max(completed_rounds(run))
        made.wait_for_round(run, max(2 * third, after + 1), timeout_s=TIMEOUT_S)
        with filled(site_disk):
            made.keep(options.full)
        made.wait_for_run(run, timeout_s=TIMEOUT_S)
        is_equal = all(
            parameters_after(calm, number) == parameters_after(run, number)
            for number in range(options.rounds + 1)
        )
        events = read_events(run)
        log = (made.coordinator.logs_folder / "start.log").read_text()
        told = {event.code for event in events if event.kind == "run_interrupted"}
        asked = {event.code for event in events if event.kind == "site_asked_again"}
        status = read_run(run).status
    says = "is said" if re.search("he disk (is|was) full", log) else "IS NOT SAID"
    yield (
        f"{options.rounds} rounds over 2 sites, each disk full for {options.full:.0f} "
        f"s ({describe_machine()}). The server's: {after - before} rounds meanwhile, "
        f"interruptions {sorted(told) or 'none told'}, the full disk {says} by "
        f"`acf-server start`. The site's: asked again for "
        f"{sorted(asked) or 'nothing'}. Status {status}; parameters after every round "
        f"{'bit-equal' if is_equal else 'DIFFERENT'}."
    )


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--full", type=float, default=60.0, help="seconds of it")
    parser.add_argument("--write", type=Path, help="markdown file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        text = "\n".join(play(options, Path(temporary))) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
