"""Topic `actions`: a message names an outbox entry, and here it goes on, whatever its kind."""

from __future__ import annotations

from tagstitch.core.callback import parse_action
from tagstitch.core.json_input import decode_json
from tagstitch.pipeline.act import ActionDelivery
from tagstitch.pipeline.backend import Backend
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.deliver import CallbackDelivery


class OutboxDelivery:
    """Hands entries to callbacks or to actions; nothing is sent without the stored entry."""

    def __init__(
        self, backend: Backend, callbacks: CallbackDelivery, actions: ActionDelivery
    ) -> None:
        self._backend = backend
        self._callbacks = callbacks
        self._actions = actions

    async def resume_message(self, message: Message, *, deadline: Deadline) -> None:
        """Process one message; raises Unavailable to have it again, and InvalidInput."""
        outbox_id = parse_action(decode_json(message.data))
        document = await self._backend.documents.get(f"outbox/{outbox_id}", deadline=deadline)
        if document is None:
            return
        kind = self._actions if document.fields.get("kind") == "action" else self._callbacks
        await kind.resume(outbox_id, loaded=document, deadline=deadline)
