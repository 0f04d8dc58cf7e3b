"""The `feedmesh` command."""

import typer

from services.command.ask import event, feed, takedown
from services.command.demo import demo
from services.command.features import features
from services.command.graph import app as graph
from services.command.load import load
from services.command.model import model
from services.command.plan import plan
from services.command.status import status
from services.command.up import down, up

app = typer.Typer(
    name="feedmesh",
    help="Personal feeds from a mesh of small services: run it, load it, ask it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (up, down, status, demo, load, plan, feed, event, takedown):
    app.command()(command)
app.add_typer(features, name="features")
app.add_typer(graph, name="graph")
app.add_typer(model, name="model")

if __name__ == "__main__":
    app()
