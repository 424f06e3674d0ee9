"""The response to a lookup: its status says whether it was accepted, answered or, asked so, empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response

from tagstitch.adapters.http_request import json_response

if TYPE_CHECKING:
    from tagstitch.core.lookup import AcceptedLookup, LookupAnswer


def lookup_response(answer: LookupAnswer | AcceptedLookup, query: Mapping[str, str]) -> Response:
    """Return 202, 200, or 404 for nobody where the query has `not_found=404`."""
    is_missing = answer.is_unknown and query.get("not_found") == "404"
    status = 202 if answer.is_accepted else 404 if is_missing else 200
    return json_response(answer.to_json(), status)
