"""The URL of a bucket as `[mesh] blobs` names it: `s3://bucket/prefix`, and in its query where the store is and who asks.

    s3://feedmesh/eu?endpoint=https://s3.example.org&region=eu-west-1&credentials=/etc/feedmesh/s3

What the query leaves out is the environment's: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the
others that obstore knows. Keys stand in no URL, which is written into files and messages: `credentials` names a file of them.
"""

import configparser
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from services.blob.keys import is_name
from services.core.errors import InvalidArgument, Unavailable

SCHEME = "s3"
OPTIONS = ("endpoint", "region", "credentials")
FORM = "s3://bucket/prefix, with ?endpoint=…&region=…&credentials=file where the environment does not say them"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SECTION = "default"
_ENVIRONMENT = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")


@dataclass(frozen=True, slots=True)
class Location:
    """Where blobs lie in a bucket. prefix: names that all keys begin with, or ""; credentials: a file of them, or "".

    endpoint and region are "" where the environment says them.
    """

    url: str
    bucket: str
    prefix: str
    endpoint: str
    region: str
    credentials: str

    @property
    def address(self) -> str:
        """Of the blobs, for people: where the key `a` is `<address>/a`."""
        return f"{SCHEME}://{self.bucket}/{self.prefix}".rstrip("/")

    def __str__(self) -> str:
        """Equal for the same blobs, however they are reached."""
        return f"{self.address} at {self.endpoint}" if self.endpoint else self.address

    @property
    def plain_http(self) -> bool:
        """Whether the endpoint is one without TLS, which the URL or the environment has to say."""
        said = self.endpoint or next(filter(None, map(os.environ.get, _ENVIRONMENT)), "")
        return said.startswith("http://")


def location_of(url: str) -> Location:
    """The location that a URL names. Raises ValueError saying what of it is not allowed."""
    parts = urlsplit(url)
    prefix = unquote(parts.path).strip("/")
    if parts.scheme != SCHEME or parts.fragment or parts.username or parts.port or "//" in parts.path:
        raise ValueError(f"expected {FORM}")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(f"the bucket {parts.netloc!r} is no name of one: 3 to 63 of a-z, 0-9, '.' and '-'")
    if prefix and not all(map(is_name, prefix.split("/"))):
        raise ValueError(
            f"the prefix {prefix!r} is not allowed: names of A-Z, a-z, 0-9, '.', '_' and '-', no dot first"
        )
    return Location(url, parts.netloc, prefix, **_options(parts.query))


def _options(query: str) -> dict[str, str]:
    try:
        given = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ValueError(f"{query!r} is no query: expected {FORM}") from None
    for name, value in given:
        if name not in OPTIONS:
            raise ValueError(f"it has no {name!r}; allowed are {', '.join(OPTIONS)}")
        if not value or "\0" in value:
            raise ValueError(f"{name} is empty: leave it out where the environment says it")
    options = dict(given)
    if len(options) < len(given):
        raise ValueError("an option stands twice")
    if (endpoint := options.get("endpoint", "")) and not endpoint.startswith(("http://", "https://")):
        raise ValueError(f"endpoint = {endpoint!r}: expected a URL that begins with https:// or http://")
    if (file := options.get("credentials", "")) and not file.startswith("/"):
        raise ValueError(f"credentials = {file!r}: expected the absolute path of a file")
    return dict.fromkeys(OPTIONS, "") | options


def keys_in(file: str) -> dict[str, str]:
    """The keys in a file of credentials, as ~/.aws/credentials has them: what obstore takes.

    Raises Unavailable when it can't be read, InvalidArgument when it holds none; neither says what it holds.
    """
    reader = configparser.RawConfigParser()
    try:
        reader.read_string(Path(file).read_text())
        section = reader[_SECTION]
        found = {"access_key_id": section["aws_access_key_id"], "secret_access_key": section["aws_secret_access_key"]}
    except OSError as error:
        raise Unavailable(f"{file}: the credentials of the store of blobs can't be read: {error.strerror}") from None
    except (configparser.Error, KeyError, UnicodeDecodeError):
        raise InvalidArgument(
            f"{file}: expected a section [{_SECTION}] with aws_access_key_id and aws_secret_access_key"
        ) from None
    if token := section.get("aws_session_token"):
        found["session_token"] = token
    return found
