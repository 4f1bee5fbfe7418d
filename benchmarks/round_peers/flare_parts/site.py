"""A site's script of FLARE's Client API: sends back what it got, shifted."""

import nvflare.client as flare
from sixty_tensors import shift

flare.init()
while flare.is_running():
    received = flare.receive()
    by = shift()
    params = {name: value + by for name, value in received.params.items()}
    flare.send(flare.FLModel(params=params, meta={"NUM_STEPS_CURRENT_ROUND": 1}))
