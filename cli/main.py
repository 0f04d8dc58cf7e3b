"""The `feedmesh` command."""

from importlib.metadata import version
from typing import Annotated

import typer

from cli.ask import event, feed, takedown
from cli.boundary import Commands
from cli.certs import certs
from cli.check import check
from cli.demo import demo
from cli.doctor import doctor
from cli.features import features
from cli.graph import app as graph
from cli.kernels import kernels
from cli.layout import layout
from cli.load import load
from cli.log import app as log
from cli.model import model
from cli.plan import plan
from cli.roll import roll
from cli.serve import describe, serve
from cli.snapshot import snapshot
from cli.status import status
from cli.up import down, up

app = typer.Typer(
    name="feedmesh",
    cls=Commands,
    help="Personal feeds from a mesh of small services: run it, load it, ask it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"feedmesh {version('feedmesh')}")
        raise typer.Exit


@app.callback()
def _options(
    asked: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    pass


for command in (
    up,
    down,
    serve,
    describe,
    status,
    roll,
    check,
    doctor,
    demo,
    load,
    kernels,
    plan,
    feed,
    event,
    takedown,
):
    app.command()(command)
app.add_typer(certs, name="certs")
app.add_typer(features, name="features")
app.add_typer(graph, name="graph")
app.add_typer(log, name="log")
app.add_typer(layout, name="layout")
app.add_typer(model, name="model")
app.add_typer(snapshot, name="snapshot")

if __name__ == "__main__":
    app()
