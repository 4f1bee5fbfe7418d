"""The Flower ClientApp of a site: from a message to the trainer and back.

The site's SuperNode keeps this module in memory (resident_app.py), so it imports no
torch. It is also the edge of the site: whatever goes wrong, what leaves is a code.
"""

import logging

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from acf_client.trainer_link import Frame, ask_trainer
from acfnet_core.errors import AcfnetError, ProtocolError
from acfnet_core.federation.messages import (
    DOCUMENT,
    FAILURE,
    PARAMETERS,
    REQUEST,
    SiteFailure,
)

logger = logging.getLogger(__name__)

app = ClientApp()


@app.train()
def take_part(message: Message, context: Context) -> Message:
    """Answer a round's request."""
    del context
    try:
        answer = ask_trainer(_read(message.content))
    except AcfnetError as error:
        logger.error("The round was not done: %s", error.code)  # noqa: TRY400
        answer = _failure(error.code)
    except Exception as error:
        # The edge of the process: Flower would send the text of this exception, which
        # may hold a path or a value, to the coordinator.
        logger.error("The round failed: %s", type(error).__name__)  # noqa: TRY400
        answer = _failure("protocol.site_failed")
    return Message(content=_write(answer), reply_to=message)


def refuse(message: Message, code: str) -> Message:
    """Return the answer that says why there is none: a code, and no other word."""
    return Message(content=_write(_failure(code)), reply_to=message)


def _read(content: RecordDict) -> Frame:
    try:
        document = str(content.config_records[REQUEST][DOCUMENT])
        arrays = content.array_records.get(PARAMETERS)
        parameters = None if arrays is None else arrays[PARAMETERS].numpy()
    except KeyError as error:
        raise ProtocolError(
            "protocol.malformed",
            "The server's message lacks its request or its parameters.",
            remedy="Install the same acfnet version on both sides.",
        ) from error
    return Frame(REQUEST, document, parameters)


def _write(frame: Frame) -> RecordDict:
    content = RecordDict({frame.kind: ConfigRecord({DOCUMENT: frame.document})})
    if frame.parameters is not None:
        content[PARAMETERS] = ArrayRecord({PARAMETERS: Array(frame.parameters)})
    return content


def _failure(code: str) -> Frame:
    return Frame(FAILURE, SiteFailure(code=code).model_dump_json())
