"""The simulation gives known results where there are any, and each of its parts matters."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import mean

import pytest

from bench.scale.hot_visitor import ATTEMPTS, hot_visitor
from bench.scale.instances import (
    Instances,
    Outcome,
    Scaling,
    Service,
    arrivals,
    constant,
    exponential,
    lognormal,
)
from bench.scale.report import (
    BURST,
    DECIDE,
    DEFAULT,
    PUBLISH_S,
    WORKERS_MOST,
    audit_messages,
    carried,
    for_audit,
    for_rate,
    hot_table,
    ramp_minutes,
    scenario_table,
    settings,
    simulate_all,
    stitched_share,
)
from bench.scale.theory import erlang_c, md1_wait_s, mmc_wait_s
from tagstitch.pipeline import decide

NOTHING = constant(0.0)


def fixed(number: int) -> Scaling:
    """As many instances as there are, for ever, and patience without end."""
    return Scaling(least=number, most=number, start_s=0, pending_s=1e9)


def run(service: Service, scaling: Scaling, *, rate: float, seconds: float, seed: int) -> Outcome:
    random = Random(seed)
    return Instances(service, scaling, random).run(arrivals([(seconds, rate)], random))


@pytest.mark.parametrize(
    ("servers", "load", "chance"), [(1, 0.8, 0.8), (2, 1.0, 1 / 3), (10, 8.0, 0.4092)]
)
def test_erlang_c_gives_the_values_of_its_tables(servers: int, load: float, chance: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(chance, abs=1e-4)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.6), (4, 3.0), (20, 17.0)])
def test_instances_with_one_place_wait_as_erlang_c_says(servers: int, load: float) -> None:
    service = Service(processor_s=NOTHING, stores_s=exponential(1.0), places=1)

    found = run(service, fixed(servers), rate=load, seconds=200_000 / load, seed=1)

    waited = sum(wait > 0 for wait in found.waits_s) / len(found.waits_s)
    assert waited == pytest.approx(erlang_c(servers, load), rel=0.05)
    assert mean(found.waits_s) == pytest.approx(mmc_wait_s(servers, load, 1.0), rel=0.1)
    assert found.refused == 0


def test_the_places_of_one_instance_are_servers_too() -> None:
    service = Service(processor_s=NOTHING, stores_s=exponential(1.0), places=8)

    found = run(service, fixed(1), rate=6.0, seconds=30_000, seed=2)

    assert mean(found.waits_s) == pytest.approx(mmc_wait_s(8, 6.0, 1.0), rel=0.1)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_a_processor_makes_requests_wait_as_pollaczek_and_khinchine_say(load: float) -> None:
    service = Service(processor_s=constant(1.0), stores_s=NOTHING, places=10_000)

    found = run(service, fixed(1), rate=load, seconds=200_000 / load, seed=3)

    assert mean(found.waits_s) == pytest.approx(md1_wait_s(load, 1.0), rel=0.05)


class TestScaling:
    service = Service(processor_s=constant(0.01), stores_s=constant(0.02), places=10)

    def test_it_holds_the_processors_at_six_tenths(self) -> None:
        scaling = Scaling(least=4, most=100, start_s=2)

        found = run(self.service, scaling, rate=300, seconds=120, seed=4)

        assert found.most == pytest.approx(300 * 0.01 / 0.6, abs=1.1)
        assert found.most > 4
        assert found.refused == 0

    def test_no_more_instances_than_allowed_refuse_what_is_too_much(self) -> None:
        scaling = Scaling(least=1, most=2, start_s=2)

        found = run(self.service, scaling, rate=300, seconds=300, seed=5)

        # Two processors of 100 requests a second each; the last ten seconds' queue is answered.
        assert found.most == 2
        assert found.refused / (300 * 300) == pytest.approx(1 / 3 - 10 * 200 / 90_000, abs=0.02)

    def test_a_start_that_takes_longer_makes_more_wait(self) -> None:
        scaling = Scaling(least=1, most=100, start_s=1)
        waits = [
            mean(
                run(self.service, replace(scaling, start_s=s), rate=300, seconds=30, seed=6).waits_s
            )
            for s in (0.1, 1, 4)
        ]

        assert waits[0] < waits[1] < waits[2]

    def test_every_request_is_answered_or_refused(self) -> None:
        times = list(arrivals([(20, 50), (10, 500), (20, 50)], Random(7)))

        found = Instances(
            self.service, Scaling(least=1, most=3, start_s=2, pending_s=2), Random(8)
        ).run(times)

        assert len(found.answers_s) + found.refused == len(times)
        assert found.refused > 0

    def test_the_same_seed_gives_the_same_figures(self) -> None:
        scaling = Scaling(least=1, most=9, start_s=1)

        one, other = (run(self.service, scaling, rate=200, seconds=20, seed=9) for _ in range(2))

        assert one == other


class TestHotVisitor:
    def test_an_idle_visitor_has_no_conflicts(self) -> None:
        found = hot_visitor(
            0.01, read_s=constant(0.01), commit_s=constant(0.02), seconds=50_000, random=Random(1)
        )

        assert found.at_once == found.events > 400

    def test_the_hotter_the_more_is_given_up(self) -> None:
        shares = []
        for rate in (1, 10, 100):
            found = hot_visitor(
                rate,
                read_s=constant(0.01), commit_s=constant(0.02), seconds=3000 / rate,
                random=Random(2),
            )  # fmt: skip
            shares.append(found.given_up / found.events)

        assert shares[0] < shares[1] < shares[2]
        assert shares[2] > 0.3

    def test_conflicts_are_those_of_commits_between_read_and_effect(self) -> None:
        """With rare events, one in `rate * (half a read and half a commit)` meets another."""
        found = hot_visitor(
            2.0, read_s=constant(0.02), commit_s=constant(0.02), seconds=50_000, random=Random(3)
        )

        assert 1 - found.at_once / found.events == pytest.approx(2.0 * 0.02, rel=0.1)

    def test_decide_tries_as_often(self) -> None:
        assert decide._DECISIONS_MAX == ATTEMPTS


def test_a_long_tail_has_its_median_and_its_percentile() -> None:
    random = Random(10)
    draw = lognormal(0.012, 0.06)
    drawn = sorted(draw(random) for _ in range(100_000))

    assert drawn[50_000] == pytest.approx(0.012, rel=0.02)
    assert drawn[99_000] == pytest.approx(0.06, rel=0.05)


@pytest.mark.parametrize("rate", [50, 300, 588])
def test_records_gather_as_they_do_while_one_publication_is_under_way(rate: int) -> None:
    messages, free_at, waiting = 0, 0.0, 0
    for now in arrivals([(200, rate)], Random(11)):
        if waiting and free_at <= now:  # what gathered left when the last one had ended
            messages, free_at, waiting = messages + 1, free_at + PUBLISH_S, 0
        if free_at <= now:
            messages, free_at = messages + 1, now + PUBLISH_S
        else:
            waiting += 1

    assert for_rate(rate) == 1
    expected = audit_messages(rate) - stitched_share() * rate
    assert messages / 200 == pytest.approx(expected, rel=0.02)


class TestThePage:
    results = (Path(__file__).resolve().parents[2] / "bench" / "RESULTS.md").read_text("utf-8")

    def test_it_has_the_hot_visitor_as_it_is_simulated(self) -> None:
        assert "\n".join(hot_table(7)) in self.results

    def test_it_has_the_smaller_bursts_as_they_are_simulated(self) -> None:
        _, _, *rows = scenario_table(simulate_all(7, rates=[100]))

        assert len(rows) == 1, "the defaults carry the burst: no other setting differs"
        assert "\n".join(rows) in self.results

    def test_what_the_defaults_carry_is_what_is_deployed(self) -> None:
        text = (Path(__file__).resolve().parents[2] / "infra" / "functions.tf").read_text("utf-8")
        deployed = dict(
            re.findall(r"^    (\w+) += \{.*max_instances = (\d+) \}$", text, re.MULTILINE)
        )
        places = re.search(r"decide .*concurrency = (\d+)", text)

        assert deployed == {
            "stitch_sync": "20", "decide": str(DEFAULT.most),
            "stitch_async": str(WORKERS_MOST), "audit_sink": str(WORKERS_MOST),
        }  # fmt: skip
        assert places is not None
        assert int(places[1]) == DECIDE.places

    def test_the_plan_has_the_figures_of_the_simulation(self) -> None:
        text = (Path(__file__).resolve().parents[2] / "docs" / "scale.md").read_text("utf-8")
        usual, burst = for_rate(10_000), for_rate(BURST * 10_000)
        most = settings(10_000)["awake for the burst"].most
        published, appended = (
            float(figure)
            for what in ("published", "appended to the audit")
            for figure in re.findall(
                rf"^\| MB {what} a second .* ([\d.]+) \|$", self.results, re.MULTILINE
            )
        )
        told = (
            f"`min_instances` of decide for the burst ({for_rate(BURST * 1_000)}) |",
            f"| {carried(for_audit, WORKERS_MOST):,} | audit_sink is at its ten instances",
            f"`max_instances` {most} and `min_instances` {usual} to {burst} of decide",
            f"decide     = {{ min_instances = {usual}, max_instances = {most} }}",
            f"{published:.0f} MB are published and pushed each second",
            f"{appended:.0f} MB are appended each second",
            f"{ramp_minutes(2_900):.0f} minutes to 10,000 events a second",
            f", {ramp_minutes(29_000):.0f} to 100,000",
        )

        assert [sentence for sentence in told if sentence not in text] == []
