"""`tagstitch`: the command line."""

from __future__ import annotations

import typer

from tagstitch.cli import (
    audit,
    deadletters,
    decisions,
    identity,
    identity_review,
    person,
    profiles,
    rules,
    traits,
)
from tagstitch.cli.backtest import backtest
from tagstitch.cli.demo import demo
from tagstitch.cli.identity_simulate import simulate
from tagstitch.cli.listen import listen
from tagstitch.cli.replay import replay
from tagstitch.cli.up import up

app = typer.Typer(
    help="Who a visitor is and what to do with an event, for server-side Google Tag Manager.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(up)
app.command()(listen)
app.command()(demo)
app.command()(replay)
rules.app.command()(backtest)
identity.app.command()(simulate)
app.add_typer(rules.app, name="rules")
app.add_typer(profiles.app, name="profiles")
identity.app.add_typer(identity_review.app, name="review")
person.add_to(identity.app)
app.add_typer(identity.app, name="identity")
app.add_typer(traits.app, name="traits")
app.add_typer(audit.app, name="audit")
app.add_typer(decisions.app, name="decisions")
app.add_typer(deadletters.app, name="deadletters")


def main() -> None:
    """Run the command that the arguments name."""
    app(prog_name="tagstitch")
