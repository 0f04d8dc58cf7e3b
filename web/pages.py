"""The pages, made of templates and files as they are on disk now, so that an edit shows on reload; and Swagger UI from its
own package.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import swagger_ui_bundle
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

HERE = Path(__file__).resolve().parent


class Files(StaticFiles):
    """Files of a folder, each asked for again every time and answered with 304 while it is the same."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or 304, or 404."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        return response

    def page(self, path: str) -> Any:
        """An endpoint that answers one file."""

        async def endpoint(request: Request) -> Response:
            return await self.get_response(path, request.scope)

        return endpoint


class Templates:
    """Pages of one frame (`templates/frame.html`), each answered with 304 while it is the same."""

    def __init__(self, folder: Path, files: Files) -> None:
        """files: decides whether a browser's copy is the same."""
        self._made = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined)
        self._files = files

    def page(self, name: str) -> Any:
        """An endpoint that answers one template."""

        async def endpoint(request: Request) -> Response:
            body = self._made.get_template(name).render()
            etag = f'"{hashlib.blake2b(body.encode(), digest_size=16).hexdigest()}"'
            response = HTMLResponse(body, headers={"cache-control": "no-cache", "etag": etag})
            if self._files.is_not_modified(response.headers, Headers(scope=request.scope)):
                return NotModifiedResponse(response.headers)
            return response

        return endpoint


def routes(static: Path = HERE / "static") -> list[BaseRoute]:
    """The pages, and the files that they load."""
    files, swagger = Files(directory=static), Files(directory=HERE / "swagger")
    assets = Files(directory=os.fspath(swagger_ui_bundle.swagger_ui_path))
    pages = Templates(HERE / "templates", files)
    return [
        Route("/", pages.page("index.html")),
        Route("/health", pages.page("health.html")),
        Route("/models", pages.page("models.html")),
        Route("/favicon.ico", files.page("icon.svg")),
        Route("/docs", swagger.page("index.html")),
        Route("/docs/start.js", swagger.page("start.js")),
        Mount("/docs/assets", assets),
        Mount("/static", files),
    ]
