"""What `acf-client start` runs, with a trainer that has no patients.

python benchmarks/round_peers/ours_site.py SITE_FOLDER
"""

import sys
from pathlib import Path

from stand_ins import put_in_place

from acf_client import supernode
from acf_client.site import Site, open_site
from acfnet_core.edge import end_on_signals
from acfnet_core.processes import READY, Child, start_child

_TRAINER_PROGRAM = Path(__file__).with_name("ours_trainer.py")


def start_stand_in(site: Site) -> Child:
    """Start the stand-in for the site's trainer."""
    return start_child(
        "trainer",
        [sys.executable, str(_TRAINER_PROGRAM), str(site.folder)],
        log_file=site.logs_folder / "trainer.log",
    )


def no_patients(*_: object, **__: object) -> None:
    """Stand in for the opening of the prepared patients: there are none."""


def main() -> None:
    """Run the site until this process is ended."""
    end_on_signals()
    put_in_place(supernode, "_start_trainer", start_stand_in)
    put_in_place(supernode, "open_store", no_patients)
    with supernode.running_site(open_site(Path(sys.argv[1])), tell=print) as supervisor:
        print(READY, flush=True)
        supervisor.watch()


if __name__ == "__main__":
    main()
