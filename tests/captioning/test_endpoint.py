"""A program that sees pictures is asked as OpenAI's protocol says, and the key goes to it and nowhere else."""

import base64
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hotlora.captioning.endpoint import Endpoint
from hotlora.engine.errors import UserError
from PIL import Image

KEY = "sk-very-secret"


@pytest.fixture
def server():
    """``server.answer(request) -> (status, headers, body)``; ``server.asked`` holds (path, headers, body)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            started.asked.append((self.path, dict(self.headers), json.loads(body)))
            status, headers, answer = started.answer(json.loads(body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

        do_GET = do_POST

        def log_message(self, *args):
            """Says nothing."""

    started = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    started.asked, started.url = [], f"http://127.0.0.1:{started.server_port}/v1"
    started.answer = lambda body: (200, {}, {"choices": [{"message": {"content": " A red\n square. "}}]})
    threading.Thread(target=started.serve_forever, daemon=True).start()
    yield started
    started.shutdown()
    started.server_close()


def ask(url, model="", images=None):
    images = images or [Image.new("RGB", (2000, 500), "red")]
    return Endpoint(url, model, "What is it?")([Path("a.png")] * len(images), images)


def test_the_picture_and_the_question_arrive_and_the_answer_is_one_line(server, monkeypatch):
    monkeypatch.setenv("HOTLORA_CAPTION_KEY", KEY)
    for url in (server.url, server.url + "/", server.url + "/chat/completions"):
        assert ask(url, "some-model") == ["A red square."]
    path, headers, body = server.asked[-1]
    assert path == "/v1/chat/completions" and headers["Authorization"] == f"Bearer {KEY}" and body["model"] == "some-model"
    question, picture = body["messages"][0]["content"]
    assert question == {"type": "text", "text": "What is it?"}
    kind, _, data = picture["image_url"]["url"].partition(",")
    seen = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/jpeg;base64" and seen.size == (1024, 256) and seen.getpixel((5, 5))[0] > 250


def test_without_key_and_model_neither_is_sent(server, monkeypatch):
    monkeypatch.delenv("HOTLORA_CAPTION_KEY", raising=False)
    ask(server.url, images=[Image.new("RGB", (8, 8))] * 2)
    assert len(server.asked) == 2
    assert all("Authorization" not in headers and "model" not in body for _, headers, body in server.asked)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((401, {}, {"error": f"wrong key {KEY}"}), "refused with 401.*Set the environment variable HOTLORA_CAPTION_KEY"),
        ((404, {}, b"no such model"), "refused with 404 .no such model.. Check its address and model"),
        ((200, {}, b"<html>"), "cannot ask http"),
        ((200, {}, {"choices": []}), r"cannot caption a\.png: .* answered .*sees pictures"),
        ((200, {}, {"choices": [{"message": {"content": None}}]}), "sees pictures"),
    ],
)
def test_what_it_refuses_is_a_sentence_without_the_key(server, monkeypatch, answer, told):
    monkeypatch.setenv("HOTLORA_CAPTION_KEY", KEY)
    server.answer = lambda body: answer
    with pytest.raises(UserError, match=told) as refusal:
        ask(server.url)
    assert KEY not in str(refusal.value)


def test_the_key_is_not_carried_elsewhere(server, monkeypatch):
    monkeypatch.setenv("HOTLORA_CAPTION_KEY", KEY)
    for status in (302, 307):
        server.asked.clear()
        server.answer = lambda body, status=status: (status, {"Location": f"http://127.0.0.1:{server.server_port}/elsewhere"}, b"")
        with pytest.raises(UserError, match=f"refused with {status}"):
            ask(server.url)
        assert len(server.asked) == 1


def test_nobody_there_and_no_address_are_told(server):
    with pytest.raises(UserError, match="Check that it runs at this address"):
        ask("http://127.0.0.1:9/v1")
    for url in ("", "file:///etc/passwd", "127.0.0.1:5000"):
        with pytest.raises(UserError, match="it is no address"):
            ask(url)
