"""Every declared view is loaded, however many there are."""

from __future__ import annotations

from tagstitch.pipeline.backend import Put
from tagstitch.pipeline.deadline import Deadline
from tagstitch.pipeline.load_views import load_views
from tests.pipeline.world import World


async def test_what_the_last_of_many_views_conceals_is_concealed(world: World) -> None:
    many = [Put(f"views/v{number:04}", {"attributes": ["tier"]}) for number in range(1000)]
    for start in (0, 500):
        await world.store.commit(many[start : start + 500], deadline=Deadline.after(5))
    last = Put("views/zz", {"concealed": ["margin"]})
    await world.store.commit([last], deadline=Deadline.after(5))

    views = await load_views(world.backend.documents)(None, Deadline.after(5))

    assert len(views.by_name) == 1001
    assert views.concealed == {"margin"}
