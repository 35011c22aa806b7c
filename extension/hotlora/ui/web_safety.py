"""Who may talk to the page and the HTTP API.

A browser sends requests to this computer for whatever web page its user looks at; and a page whose name leads to this computer (DNS
rebinding) may read the answers too. So what a browser sends must come from our own page, and call us by a name that is ours. Programs
that are no browsers say nothing of pages, and are let in. Must not import gradio.
"""

import errno
import http.cookies
import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware

from ..engine.errors import UserError

_READING = ("GET", "HEAD", "OPTIONS")
_ELSEWHERE = ("cross-site", "same-site")  # what browsers say of requests that another page sends; same-site: at another port


def is_local(host: str) -> bool:
    """Whether only this computer reaches who listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_listening(host: str, *, has_password: bool, anyone: bool) -> None:
    """Raises UserError where everybody could start runs here without a password, unless that is wanted."""
    if not (is_local(host) or has_password or anyone):
        raise UserError(
            f"cannot listen at {host}: everybody who reaches this computer could train on it and read its data folders. "
            "Give --auth USER:PASSWORD, or --allow-anyone where nobody else can reach it."
        )


def check_port(host: str, port: int) -> None:
    """Raises UserError where nobody can listen there, or somebody does already."""
    start = f"cannot listen at {host}, port {port}"
    if not 1 <= port <= 65535:
        raise UserError(f"{start}: ports go from 1 to 65535. Choose another --port.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            if os.name != "nt":  # where it would let two programs listen at one port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except socket.gaierror:
        raise UserError(f"{start}: there is no such address. Correct --host.") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"{start}: a program listens there already, maybe HotLoRA. Open it there, or choose another --port.") from None
        raise UserError(f"{start}: {error.strerror or error}. Choose another --port or --host.") from None


def guard_page(folder: Path, host: str, port: int, names: Sequence[str] = ()) -> dict[str, Any]:
    """Options for a page of its own (Gradio's ``app_kwargs``), so that nothing it answers is for other pages.

    Args:
        folder: where the token is kept that pages of ours send, so that they outlive a restart.
        host, port: where it listens.
        names: under which else it is known, such as behind a proxy.
    """
    known = {name.lower() for name in (host, "localhost", socket.gethostname(), f"{socket.gethostname()}.local", *names)}
    return {
        "middleware": [Middleware(Guard, names=known, token=_read_token(folder / ".page-token"), cookie=f"hotlora-{port}", proxies=names)]
    }


def _read_token(path: Path) -> str:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


def find_stranger(headers: Mapping[str, str], method: str, is_allowed: Callable[[str], bool] = lambda origin: False) -> str:
    """A sentence where a browser sends this for another page than ours; else empty.

    Args:
        headers: by their names, whatever the case.
        is_allowed: of other pages, such as ``https://my.site``.
    """
    origin, where = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None:
        is_strange = not (is_same_place(origin, headers.get("host")) or is_allowed(origin))
    else:
        is_strange = where in _ELSEWHERE and (method not in _READING or headers.get("sec-fetch-mode") not in ("navigate", None))
    if not is_strange:
        return ""
    return f"cannot take this from '{origin or where}': it is another page than HotLoRA's own. Open HotLoRA itself, or use a program."


def is_same_place(origin: str, host: str | None) -> bool:
    """Whether a page's origin is what a request calls its receiver."""
    place = _place_of(origin)
    return place is not None and place == _place_of(f"//{host}")


def _place_of(address: str) -> str | None:
    """Host and port; the usual ports left out."""
    try:
        parts = urlsplit(address.lower())
        port = parts.port
    except ValueError:
        return None
    return f"{parts.hostname}:{'' if port in (80, 443, None) else port}" if parts.hostname else None


class Guard:
    """ASGI middleware before everything that a page of its own answers."""

    def __init__(self, app: Any, *, names: set[str], proxies: Sequence[str], token: str, cookie: str):
        self._app, self._names, self._token, self._cookie = app, names, token, cookie
        self._proxies = {name.lower() for name in proxies}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 403 with a sentence, or let it through."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers, method = Headers(scope=scope), scope.get("method", "WEBSOCKET")
        reason = (
            self._find_false_name(headers) or find_stranger(headers, method, self._is_proxy) or self._find_missing_token(headers, method)
        )
        if reason and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif reason:
            body = json.dumps({"detail": reason}).encode("ascii")
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"application/json")]})
            await send({"type": "http.response.body", "body": body})
        else:
            await self._app(scope, receive, self._hand_out_token(send))

    def _find_false_name(self, headers: Headers) -> str:
        """A number is never false: it takes a name to lead somebody's browser here."""
        place = _place_of(f"//{headers.get('host', '127.0.0.1')}")
        name = place.rpartition(":")[0] if place else ""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            if name not in self._names:
                return f"cannot answer to the name '{name}': it is not known here. Use localhost, or start with --allow-host {name}."
        return ""

    def _is_proxy(self, origin: str) -> bool:
        """Some call us by another name than their own."""
        return (_place_of(origin) or "").rpartition(":")[0] in self._proxies

    def _find_missing_token(self, headers: Headers, method: str) -> str:
        """Pages of ours have it in a cookie that no other page makes a browser send."""
        is_browser = "origin" in headers or "sec-fetch-site" in headers
        if method in _READING or not is_browser:
            return ""
        try:
            cookies = http.cookies.SimpleCookie(headers.get("cookie", ""))
        except http.cookies.CookieError:
            cookies = http.cookies.SimpleCookie()
        given = cookies[self._cookie].value if self._cookie in cookies else ""
        if secrets.compare_digest(given.encode(), self._token.encode()):
            return ""
        return "cannot take this: the page is not HotLoRA's own, or older than its last start. Reload the page."

    def _hand_out_token(self, send: Any) -> Any:
        async def send_with_token(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-frame-options"] = "SAMEORIGIN"  # else another page could have its visitors press our buttons
                if headers.get("content-type", "").startswith("text/html"):
                    headers.append("set-cookie", f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        return send_with_token
