"""audit_sink: every decision and modification into the audit table, every dead letter kept."""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from tagstitch.adapters.http_function import HttpFunction
from tagstitch.adapters.wiring import Wiring
from tagstitch.pipeline.dead_letter import Message
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.record_audit import record_audit
from tagstitch.pipeline.record_dead_letter import record_dead_letter

function = HttpFunction("audit_sink", uses=("documents", "publisher", "audit_table"))


@function.push("/", topic="audit")
async def record(wiring: Wiring, message: Message, deadline: Deadline) -> None:
    await record_audit(wiring.backend, message, deadline=deadline)


@function.push("/deadletters", topic="dead-letter")
async def bury(wiring: Wiring, message: Message, deadline: Deadline) -> None:
    await record_dead_letter(wiring.backend, wiring.keyring, message, deadline=deadline)


@functions_framework.aio.http
async def audit_sink(request: Request) -> Response:
    return await function(request)
