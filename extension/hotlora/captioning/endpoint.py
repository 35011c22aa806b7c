"""Captions from a program that speaks OpenAI's chat protocol and sees pictures: text-generation-webui, LM Studio, KoboldCpp, a cloud.

The key comes from the environment and is written nowhere: neither into a file nor into what an error says. It goes to the address that was
named and is not carried along to where that may lead on.
"""

import base64
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..engine.errors import UserError
from .captioner import KEY_VARIABLE

_LONGEST_SIDE = 1024  # pixels; models scale pictures down to less
_SECONDS = 180
_MOST_TOKENS = 300
_MOST_BYTES = 2**22  # of an answer
_SHOWN = 200


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **named: Any) -> None:
        return None


class Endpoint:
    """A :class:`~.captioner.Captioner`: one request per picture.

    Args:
        url: up to the version, such as ``http://127.0.0.1:5000/v1``.
        model: its name there; may be empty.
        question: what is asked about each picture.
    """

    def __init__(self, url: str, model: str, question: str):
        self._url = url.strip().rstrip("/").removesuffix("/chat/completions")
        if not self._url.startswith(("http://", "https://")):
            raise UserError(f"cannot ask '{url}': it is no address. Set endpoint_url to one such as http://127.0.0.1:5000/v1.")
        self._model, self._question = model.strip(), question
        self._opener = urllib.request.build_opener(_NoRedirect)

    def __call__(self, pictures: Sequence[Path], images: Sequence[Image.Image]) -> list[str]:
        return [self._ask(picture, image) for picture, image in zip(pictures, images, strict=True)]

    def _ask(self, picture: Path, image: Image.Image) -> str:
        content = [{"type": "text", "text": self._question}, {"type": "image_url", "image_url": {"url": _encode(image)}}]
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": _MOST_TOKENS, "temperature": 0, "stream": False}
        answer = self._post(body | ({"model": self._model} if self._model else {}))
        try:
            said = answer["choices"][0]["message"]["content"]
            text = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
        except (KeyError, IndexError, TypeError, AttributeError):
            shown = json.dumps(answer)[:_SHOWN]
            raise UserError(f"cannot caption {picture.name}: {self._url} answered {shown}. Check that its model sees pictures.") from None
        return " ".join(text.split())

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self._url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with self._opener.open(request, timeout=_SECONDS) as response:
                return json.loads(response.read(_MOST_BYTES))
        except urllib.error.HTTPError as error:
            told = self._hide_key(error.read(_SHOWN * 4).decode("utf-8", "replace"))[:_SHOWN]
            hint = f"Set the environment variable {KEY_VARIABLE} to its key" if error.code in (401, 403) else "Check its address and model"
            raise UserError(f"cannot ask {self._url}: it refused with {error.code} ({' '.join(told.split())}). {hint}.") from None
        except (OSError, ValueError) as error:  # not there, too slow, or no JSON
            reason = self._hide_key(str(getattr(error, "reason", error)))
            raise UserError(f"cannot ask {self._url}: {reason}. Check that it runs at this address, and go on then.") from None

    def _hide_key(self, text: str) -> str:
        key = os.environ.get(KEY_VARIABLE)
        return text.replace(key, "…") if key else text


def _encode(image: Image.Image) -> str:
    """A JPEG of at most so many pixels a side, as a data URI."""
    small = image.copy()
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")
