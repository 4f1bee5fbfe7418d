"""Flower's messages outside of a Flower process."""

import pytest
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity


def be_a_flower_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let messages be made here: Flower takes run and sender from the process."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def set_message_id(message: Message, message_id: str) -> None:
    """Give a message the id that Flower would give it on its way."""
    message.metadata.__dict__["_message_id"] = message_id
