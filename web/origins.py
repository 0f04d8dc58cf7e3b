"""Which hosts this edge is, and whose pages may read and write here. Knows no framework.

A host is the authority that the client believes it speaks to; an attacker's page can't state another, so a name that is
not ours is a page that had its own name resolve to this machine (DNS rebinding). An address can't be rebound: the page
comes from that address itself. So addresses and loopback names are allowed, and other names by a setting.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from services.core.errors import InvalidArgument

DEFAULT_PORTS = {"http": "80", "https": "443"}
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.(?!-)[a-z0-9_-]{1,63})*")
_ORIGIN = re.compile(r"(https?)://([^/?#@\\]+)")


@dataclass(frozen=True, slots=True)
class Authority:
    """Host in lower case without a trailing dot, addresses in their shortest form; port "" for the default one."""

    host: str
    port: str


def authority(text: str, scheme: str = "") -> Authority | None:
    """`host[:port]`, with the scheme's own port left out; None for what is none."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{0,5}))?", text.strip())
    if match is None:
        return None
    host, port = match[1].strip("[]").lower().removesuffix("."), match[2] or ""
    try:
        host = str(ip_address(host))
    except ValueError:
        if "[" in match[1] or not _NAME.fullmatch(host):
            return None
    if not scheme:
        return Authority(host, port)
    return Authority(host, "" if port == DEFAULT_PORTS[scheme] else port)


def origin(text: str) -> tuple[str, Authority] | None:
    """Scheme and authority of an Origin of the web; None for `null` and for what is none."""
    match = _ORIGIN.fullmatch(text.strip().lower())
    found = authority(match[2], match[1]) if match else None
    return (match[1], found) if match and found else None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class Origins:
    """The rules of one edge."""

    def __init__(self, hosts: Sequence[str], origins: Sequence[str], own: str = "") -> None:
        """hosts: names, `*.example.org` for all below it, `*` for any; origins: `https://example.org`, or `*` for any.

        own: the host that the mesh listens on. Raises InvalidArgument naming a setting that is none of these.
        """
        self._any_host, self._any_origin = "*" in hosts, "*" in origins
        self._hosts = {_host(name) for name in [*hosts, own] if name not in ("*", "")}
        self._origins = {_origin(text) for text in origins if text != "*"}
        self.reads_elsewhere = bool(origins)  # whether answers differ by Origin

    def is_host(self, text: str, scheme: str) -> bool:
        """Whether a Host header names this edge."""
        found = authority(text, scheme)
        if found is None:
            return False
        host = found.host
        if self._any_host or host in self._hosts or host == "localhost" or host.endswith(".localhost"):
            return True
        return _is_address(host) or any(f"*.{host[at + 1 :]}" in self._hosts for at, c in enumerate(host) if c == ".")

    def is_allowed(self, stated: str) -> bool:
        """Whether pages of an Origin may read and write here, though it is another site."""
        found = origin(stated)
        return found is not None and (self._any_origin or found in self._origins)

    def is_own(self, stated: str, host: str) -> bool:
        """Whether a page comes from the host that it asks. The scheme is the proxy's to know."""
        found = origin(stated)
        return found is not None and found[1] == authority(host, found[0])


def _host(text: str) -> str:
    found = authority(text.removeprefix("*."))
    if found is None or found.port:
        raise InvalidArgument(
            f"[web] allowed_hosts: {text!r} is not allowed: a name such as feeds.example.org, *.example.org, or *; no port"
        )
    return f"*.{found.host}" if text.startswith("*.") else found.host


def _origin(text: str) -> tuple[str, Authority]:
    found = origin(text)
    if found is None:
        raise InvalidArgument(
            f"[web] allowed_origins: {text!r} is not allowed: scheme://host[:port] such as https://app.example.org, or *"
        )
    return found
