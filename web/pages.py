"""The pages: files as they are on disk now, so that an edit shows on reload; and Swagger UI from its own package."""

import os
from pathlib import Path
from typing import Any

import swagger_ui_bundle
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
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


def routes(static: Path = HERE / "static") -> list[BaseRoute]:
    """The pages and what they load."""
    files, swagger = Files(directory=static), Files(directory=HERE / "swagger")
    assets = Files(directory=os.fspath(swagger_ui_bundle.swagger_ui_path))
    return [
        Route("/", files.page("index.html")),
        Route("/health", files.page("health.html")),
        Route("/models", files.page("models.html")),
        Route("/favicon.ico", files.page("icon.svg")),
        Route("/docs", swagger.page("index.html")),
        Route("/docs/start.js", swagger.page("start.js")),
        Mount("/docs/assets", assets),
        Mount("/static", files),
    ]
