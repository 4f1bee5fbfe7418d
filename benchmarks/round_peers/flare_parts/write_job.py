"""Write FLARE's own NumPy FedAvg job; runs in FLARE's environment.

python write_job.py FOLDER SITE_SCRIPT NUM_SITES NUM_ROUNDS
"""

import shutil
import sys
from pathlib import Path

from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe

folder, script, num_sites, num_rounds = sys.argv[1:]
# The recipe takes a script from the working folder.
shutil.copy(script, "site_script.py")
recipe = NumpyFedAvgRecipe(
    name="rounds",
    model=[[0.0]],
    min_clients=int(num_sites),
    num_rounds=int(num_rounds),
    train_script="site_script.py",
)
Path(folder).mkdir(parents=True)
recipe.export(folder)
