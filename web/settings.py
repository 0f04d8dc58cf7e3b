"""The settings of the section [web] of mesh.toml."""

from typing import Annotated

from msgspec import Meta

from services.core.settings import Port, ServiceSettings


class Settings(ServiceSettings, kw_only=True):
    """[web]"""

    http_port: Annotated[Port, Meta(description="where pages and JSON are; 0: any free port")] = 8080
    max_body_mb: Annotated[int, Meta(ge=1, le=64, description="size of a request's body at most")] = 8
    max_bodies_mb: Annotated[
        int,
        Meta(ge=1, le=4096, description="size at most of all bodies held in memory; more are answered with 503"),
    ] = 64
    max_connections: Annotated[
        int, Meta(ge=1, le=100_000, description="open connections; one that asks nothing gives its place to a new one")
    ] = 2048
    head_timeout_s: Annotated[
        float, Meta(ge=0.05, le=60, description="time for a request's line and headers, at most 64 KB")
    ] = 15.0  # browsers open connections ahead of need and give up after 10 s those that they did not use: they must be first
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="names of this server in `Host`, beside loopback names and addresses: feeds.example.org, "
            "*.example.org, or * for any"
        ),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description="sites whose pages may read and write here, beside its own: https://app.example.org, "
            "http://localhost:3000, or * for any"
        ),
    ] = ()
    path_prefix: Annotated[
        str,
        Meta(
            pattern="^(/[A-Za-z0-9._~-]+)*/?$",
            description="start of every path, such as /feeds, where a proxy in front does not take it off",
        ),
    ] = ""
    feed_timeout_s: Annotated[
        float, Meta(ge=0.05, le=60, description="time for a feed, waiting for its token included")
    ] = 3.0
    event_timeout_s: Annotated[
        float, Meta(ge=0.05, le=60, description="time for events, reading their body included")
    ] = 10.0
    read_timeout_s: Annotated[
        float, Meta(ge=0.05, le=60, description="time for a user, a list of users, a pin, or the models")
    ] = 2.0
    promotion_timeout_s: Annotated[
        float, Meta(ge=1, le=600, description="time for each question of a promotion: loading a model takes its own")
    ] = 30.0
    ids_mb: Annotated[
        int, Meta(ge=1, le=100_000, description="memory for external ids, about 300 bytes each, where ids are text")
    ] = 32
