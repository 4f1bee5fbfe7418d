"""The ClientApp: sends back what it got, every value shifted."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from rounds_app.sixty_tensors import shift

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a request to train."""
    received, by = message.content["arrays"], shift()
    arrays = ArrayRecord({k: Array(v.numpy() + by) for k, v in received.items()})
    metrics = MetricRecord({"num-examples": 1})
    content = RecordDict({"arrays": arrays, "metrics": metrics})
    return Message(content=content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Answer a request to evaluate, of which the arrays are read too."""
    received = message.content["arrays"]
    first = float(next(iter(received.values())).numpy().flat[0])
    metrics = MetricRecord({"num-examples": 1, "loss": first})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)
