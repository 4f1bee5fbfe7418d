"""Submit a job once all sites are connected, and wait for its end; in FLARE's own.

python submit.py ADMIN STARTUP_KIT JOB NUM_SITES
"""

import sys
import time

from nvflare.fuel.flare_api.api_spec import MonitorReturnCode
from nvflare.fuel.flare_api.flare_api import new_secure_session

WAIT_S = 120.0

admin, kit, job, num_sites = sys.argv[1:]
session = new_secure_session(admin, kit, timeout=WAIT_S)
given_up = time.monotonic() + WAIT_S
while len(session.get_system_info().client_info) < int(num_sites):
    if time.monotonic() > given_up:
        raise SystemExit("not all sites are connected")
    time.sleep(0.5)
submitted = session.submit_job(job)
ended = session.monitor_job(submitted)
session.close()
if ended != MonitorReturnCode.JOB_FINISHED:
    raise SystemExit(f"the job did not finish: {ended}")
