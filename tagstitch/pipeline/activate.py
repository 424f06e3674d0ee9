"""stitch_sync's /activation: what a front end may know of a visitor; reads, and never more."""

from __future__ import annotations

from tagstitch.core.activation import (
    ActivationAnswer,
    activation_answer,
    check_may_ask,
    check_public,
    is_for_browser,
    parse_activation,
)
from tagstitch.core.caller import Caller
from tagstitch.core.identifier import IdentitySettings
from tagstitch.core.lookup import Lookup, LookupAnswer
from tagstitch.core.view import Views, feature_names
from tagstitch.pipeline.deadline import AnswersUnderWay, Deadline
from tagstitch.pipeline.look_up import ProfileLookup
from tagstitch.pipeline.refreshed import Refreshed
from tagstitch.pipeline.stage_times import timed


class FeatureActivation:
    """Answers activations: a lookup of one identifier, in the form of its view."""

    def __init__(
        self,
        lookup: ProfileLookup,
        identity: IdentitySettings,
        *,
        views: Refreshed[Views],
        under_way: AnswersUnderWay | None = None,
    ) -> None:
        self._lookup = lookup
        self._identity = identity
        self._views = views
        self._under_way = under_way or AnswersUnderWay()

    async def answer(self, body: object, caller: Caller, *, request_id: str) -> ActivationAnswer:
        """Answer a request body; `request_id` is the one of the answer.

        The view is judged before the visitor, so that a mistake in a front end shows at once and
        not only for visitors who are known. What goes to a browser comes of a public view, and
        conceals what is concealed whatever the caller may see. Raises InvalidInput for a body that cannot be used,
        and nothing for a store that does not answer.
        """
        lookup = parse_activation(body, self._identity)
        for_browser = is_for_browser(body)
        caller.require_view(lookup.view)
        with self._under_way.one_more() as others:
            deadline = Deadline.of_calls(lookup.deadline_ms / 1000, others=others)
            return await self._activate(
                lookup, caller, request_id=request_id, for_browser=for_browser, deadline=deadline
            )

    async def _activate(
        self,
        lookup: Lookup,
        caller: Caller,
        *,
        request_id: str,
        for_browser: bool,
        deadline: Deadline,
    ) -> ActivationAnswer:
        with timed("read"):
            views = await self._views.get(deadline)
        if views is None:  # nobody can say yet which attributes the view has
            silent = LookupAnswer(
                found=False, reason="ERROR", view=lookup.view, degraded=("profile",)
            )
            return activation_answer(silent, (), request_id=request_id)
        sees_concealed = caller.may("concealed") and not for_browser
        names = feature_names(views, lookup.view, sees_concealed=sees_concealed)
        view = views.get(lookup.view)
        if for_browser:
            check_public(view)
        check_may_ask(view, lookup.identifiers[0])
        answer = await self._lookup.look_up(lookup, caller, deadline=deadline, may_publish=False)
        return activation_answer(answer, names, request_id=request_id)
