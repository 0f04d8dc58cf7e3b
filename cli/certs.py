"""`feedmesh certs`: certificates for TLS between processes, for those without a PKI."""

from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.console import err, hint, out, plainly
from cli.schema import SERVICES
from services.core.errors import InvalidArgument, NotReady
from services.core.installation import remedy
from services.core.settings import TlsSettings
from services.rpc.caller import OPERATOR

if TYPE_CHECKING:
    from cli.authority import Store

NAMES = (*SERVICES, OPERATOR)
DAYS, CA_DAYS = 90, 3_650
certs = typer.Typer(
    help="Certificates for TLS between processes: make a CA, issue, rotate. docs/operations.md has the steps.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Folder = Annotated[Path, typer.Option("--dir", help="folder of the files")]
Days = Annotated[float, typer.Option("--days", min=0.01, max=36_500, help="days until a certificate ends")]


@certs.command()
@plainly
def init(
    folder: Folder = Path("certs"),
    domain: Annotated[str, typer.Option("--domain", help="trust domain, as `[tls] domain`")] = "mesh",
    days: Annotated[float, typer.Option("--days", min=0.01, max=36_500, help="days until the CA ends")] = CA_DAYS,
) -> None:
    """Make the CA of a mesh: ca.pem, which all hosts get, and ca.key, which stays where certificates are issued.

    Examples:

        feedmesh certs init

        feedmesh certs init --dir /etc/feedmesh/certs --domain feeds.example
    """
    store = _store(folder)
    from cli.authority import CA, Validity, authority

    try:
        msgspec.convert({"domain": domain}, TlsSettings)
    except msgspec.ValidationError:
        raise InvalidArgument(f"--domain {domain!r}: allowed are names such as mesh or feeds.example") from None
    if store.has(CA):
        raise InvalidArgument(f"{folder}: has a CA already; `feedmesh certs rotate --ca` replaces it")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    store.write(CA, authority(domain, Validity.of_days(days)))
    out.print(f"{folder / 'ca.pem'} and {folder / 'ca.key'}, of the domain {domain}", highlight=False, soft_wrap=True)
    hint("next: `feedmesh certs issue`")


@certs.command()
@plainly
def issue(
    services: Annotated[
        list[str] | None, typer.Argument(help=f"for these: {', '.join(NAMES)} [default: those that have none]")
    ] = None,
    folder: Folder = Path("certs"),
    days: Days = DAYS,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="another name of the host, or an address, for tools that look for it"),
    ] = None,
) -> None:
    """Make a certificate and a key for each service, and for `operator`, which commands use.

    Examples:

        feedmesh certs issue                              for every service that has none

        feedmesh certs issue apiary operator --days 30

        feedmesh certs issue web --name web.example --name 10.0.0.1
    """
    store = _store(folder)
    from cli.authority import CA, Validity, issued

    for one in services or ():
        if one not in NAMES:
            raise InvalidArgument(f"{one!r}: there is no such service; there are {', '.join(NAMES)}")
    by = store.pair(CA)
    domain = _domain(store)
    wanted = services or [one for one in NAMES if not store.has(one)]
    for one in wanted:
        store.write(one, issued(by, domain, one, Validity.of_days(days), name or ()))
    if not wanted:
        hint("every service has one; `feedmesh certs rotate` replaces them")
        return
    _say(store, wanted)


@certs.command()
@plainly
def rotate(
    folder: Folder = Path("certs"),
    days: Days = DAYS,
    ca: Annotated[bool, typer.Option("--ca", help="the next step of replacing the CA, of three")] = False,
) -> None:
    """Replace every certificate and key of the folder; processes take the files when they are other ones, and no call ends.

    A CA is replaced in three steps, each a call with --ca, after each of which all hosts get the files: all trust both CAs; the
    new one issues; only the new one is trusted.

    Examples:

        feedmesh certs rotate --dir /etc/feedmesh/certs

        feedmesh certs rotate --ca
    """
    store = _store(folder)
    from cli.authority import CA, Validity, again

    if ca:
        _rotate_ca(store, days)
        return
    by, there = store.pair(CA), store.services()
    for one in there:
        store.write(one, again(by, store.certificates(one)[0], Validity.of_days(days)))
    _say(store, there)


def _rotate_ca(store: "Store", days: float) -> None:
    from cli.authority import CA, NEXT, Validity, again, authority

    before = store.pair(CA)
    if store.has(NEXT):
        following, there = store.pair(NEXT), store.services()
        store.write(CA, following, [one for one in store.certificates(CA) if one != following.certificate])
        for one in there:
            store.write(one, again(following, store.certificates(one)[0], Validity.of_days(days)))
        store.remove(NEXT)
        said = "step 2 of 3: the new CA has issued every certificate. When all hosts have the files"
    elif len(store.certificates(CA)) > 1:
        store.trust([before.certificate])
        out.print("step 3 of 3: only the new CA is trusted, once all hosts have ca.pem", highlight=False)
        return
    else:
        made = authority(_domain(store), Validity.of_days(CA_DAYS))
        store.write(NEXT, made)
        store.trust([before.certificate, made.certificate])
        said = "step 1 of 3: ca.pem has the certificates of both CAs. When all hosts have it"
    out.print(f"{said}: `feedmesh certs rotate --ca` again", highlight=False, soft_wrap=True)


def _domain(store: "Store") -> str:
    """As the CA's name has it."""
    from cli.authority import CA

    common = store.certificates(CA)[0].subject.rfc4514_string().removeprefix("CN=")
    if not common.endswith(" CA"):
        raise InvalidArgument(f"{store.folder / 'ca.pem'}: is not of `feedmesh certs init`: its subject is {common!r}")
    return common.removesuffix(" CA")


def _say(store: "Store", names: Sequence[str]) -> None:
    for one in names:
        end = store.certificates(one)[0].not_valid_after_utc
        left = (end - datetime.now(UTC)).total_seconds() / 86_400
        out.print(f"{store.folder / one}.pem  valid for {left:.1f} days", highlight=False, soft_wrap=True)
    err.print("copy what each host needs to it; the key of the CA stays here", highlight=False)


def _store(folder: Path) -> "Store":
    if find_spec("cryptography") is None:
        raise NotReady(f"this takes a package that is not here: cryptography; install it: `{remedy('cluster')}`")
    from cli.authority import Store

    try:
        folder.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InvalidArgument(f"--dir {folder}: {error.strerror}") from None
    return Store(folder)
