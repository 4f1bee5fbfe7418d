"""The ServerApp: Flower's own FedAvg, which notes when each round has ended."""

import time
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from rounds_app.sixty_tensors import sixty_tensors

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Do all rounds."""
    settings = context.run_config
    times_file = Path(str(settings["times-file"]))

    def note_end(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        if server_round > 0:
            with times_file.open("a") as file:
                file.write(f"{time.time()}\n")
        return MetricRecord()

    tensors = sixty_tensors(float(settings["mb"]))
    num_sites = int(settings["num-sites"])
    strategy = FedAvg(
        fraction_evaluate=float(settings["fraction-evaluate"]),
        min_train_nodes=num_sites,
        min_evaluate_nodes=num_sites if float(settings["fraction-evaluate"]) else 0,
        min_available_nodes=num_sites,
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({k: Array(v) for k, v in tensors.items()}),
        num_rounds=int(settings["num-server-rounds"]),
        evaluate_fn=note_end,
    )
