"""Nobody is let in whom the user did not ask: neither other web pages in the user's browser, nor names that lead here."""

import socket
import stat
import sys

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from fastapi.testclient import TestClient
from hotlora.engine.errors import UserError
from hotlora.ui.api import build_router
from hotlora.ui.page import build_standalone_page
from hotlora.ui.web_safety import check_listening, check_port, guard_page, is_local
from starlette.websockets import WebSocketDisconnect
from toy_studio import toy_studio

RUNS = "/hotlora/v1/runs"
HERE = "http://127.0.0.1:7862"
JSON = {"content-type": "application/json"}
OPTIONS = {"output_name": "cat", "train_data_dir": "x", "max_steps": 2, "tensorboard": False}


def connect(folder, host="127.0.0.1", names=(), address=HERE):
    app = FastAPI(**guard_page(folder, host, 7862, names))
    app.include_router(build_router(toy_studio(folder), None))
    app.get("/", response_class=HTMLResponse)(lambda: "<p>our page</p>")

    @app.websocket("/talk")
    async def talk(socket):
        await socket.accept()
        await socket.send_text("hello")

    return TestClient(app, base_url=address)


@pytest.fixture
def client(tmp_path):
    return connect(tmp_path)


@pytest.fixture
def hosted(tmp_path):
    """The API as it is inside a WebUI, which has its own rules for its own pages."""
    app = FastAPI()
    app.include_router(build_router(toy_studio(tmp_path), None, lambda origin: origin == "https://my.site"))
    return TestClient(app, base_url="http://webui.example:7860")


STRANGERS = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:3000"},  # another program's page on this computer
    {"origin": "http://127.0.0.1:7862.evil.example"},
    {"origin": "http://evil.example", "x-forwarded-host": "evil.example"},
    {"origin": "http://["},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", STRANGERS)
def test_other_pages_can_neither_change_nor_read_anything(client, headers):
    client.get("/")  # the cookie is there, and does not help
    ways = [("POST", RUNS), ("POST", f"{RUNS}/cat/stop"), ("DELETE", f"{RUNS}/cat"), ("POST", "/hotlora/v1/datasets/x"), ("GET", RUNS)]
    for method, way in ways:
        fetch = {"sec-fetch-mode": "no-cors"} if "sec-fetch-site" in headers else {}
        refused = client.request(method, way, headers={**headers, **fetch}, json=OPTIONS if method == "POST" else None)
        assert refused.status_code == 403 and refused.json()["detail"].startswith("cannot take this"), (method, way)
    assert client.get(RUNS).json() == []
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/talk", headers={"origin": "http://evil.example"}):
        pass


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7862", "127.0.0.1.evil.example", "localhost.evil.example", "0x7f000001", "[", "a b"]
)
def test_a_name_that_is_not_ours_is_not_answered_to(client, host):
    for method in ("GET", "POST"):
        refused = client.request(method, RUNS, headers={"host": host, "origin": f"http://{host}"})
        assert refused.status_code == 403 and "--allow-host" in refused.json()["detail"]
        assert client.request(method, "/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:7862", "localhost:7862", "LOCALHOST", "[::1]:7862", "192.168.1.5:7862", "my.name"])
def test_numbers_and_our_own_names_are(tmp_path, host):
    client = connect(tmp_path, names=["My.Name"])
    assert client.get(RUNS, headers={"host": host}).status_code == 200


def test_programs_that_are_no_browsers_need_nothing(client):
    assert client.post(RUNS, json=OPTIONS).status_code == 201
    assert client.post(f"{RUNS}/cat/pause").status_code in (200, 400)  # it may be done


def test_our_own_page_has_a_token_in_a_cookie_which_no_other_page_can_send(client, tmp_path):
    ours = {"origin": HERE, "sec-fetch-site": "same-origin"}
    refused = client.post(RUNS, json=OPTIONS, headers=ours)
    assert refused.status_code == 403 and "Reload the page" in refused.json()["detail"]
    shown = client.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})  # a link that somebody follows
    assert shown.status_code == 200 and shown.headers["x-frame-options"] == "SAMEORIGIN"
    cookie = shown.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert client.post(RUNS, json=OPTIONS, headers=ours).status_code == 201
    assert client.post(RUNS, json=OPTIONS, headers={**ours, "cookie": "hotlora-7862=guessed"}).status_code == 403
    again = connect(tmp_path)  # the program was started again: pages that are open go on
    again.cookies = client.cookies
    assert again.post(f"{RUNS}/cat/go_on", headers=ours).status_code != 403
    if sys.platform != "win32":
        assert stat.S_IMODE((tmp_path / ".page-token").stat().st_mode) == 0o600


def test_a_proxy_that_calls_us_otherwise_is_known_by_its_name(tmp_path):
    client = connect(tmp_path, names=["train.example"])
    client.get("/")
    assert client.get(RUNS, headers={"origin": "https://train.example"}).status_code == 200
    assert client.get(RUNS, headers={"origin": "https://evil.example"}).status_code == 403


def test_the_real_page_works_behind_the_guard(serve, open_page, tmp_path):
    address = serve(build_standalone_page(toy_studio(tmp_path)), app_kwargs=guard_page(tmp_path, "127.0.0.1", 7862))
    page = open_page(address)
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_answer .hotlora-bad", has_text="Give the LoRA a name").wait_for()
    page.wait_for_function("document.querySelector('#hotlora_beat i')?.textContent >= 2")
    upload = tmp_path / "cat.png"
    upload.write_bytes(b"x")
    page.locator("#hotlora_upload input[type=file]").set_input_files([str(upload)])
    page.locator("#hotlora_album figure").wait_for()


# -- inside a host -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://webui.example", "http://127.0.0.1:7860", "https://my.site.evil.example"]
)
def test_inside_a_host_other_pages_can_change_nothing(hosted, origin):
    for method, way in (("POST", RUNS), ("POST", f"{RUNS}/cat/stop"), ("DELETE", "/hotlora/v1/check"), ("POST", "/hotlora/v1/datasets/x")):
        assert hosted.request(method, way, headers={"origin": origin}).status_code == 403
    assert hosted.get(RUNS).json() == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://webui.example:7860"},
        {"origin": "https://my.site"},
        {"origin": "https://proxy.example", "x-forwarded-host": "proxy.example"},
    ],
)
def test_inside_a_host_its_own_page_the_allowed_ones_and_programs_can(hosted, headers):
    assert hosted.post(RUNS, json=OPTIONS, headers=headers).status_code == 201


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "TEXT/plain"])
def test_what_a_form_could_send_is_refused_with_what_to_send(hosted, kind):
    for way in (RUNS, f"{RUNS}/cat/stop", "/hotlora/v1/check", "/hotlora/v1/data"):
        refused = hosted.post(way, content=b"{}", headers={"content-type": kind})
        assert refused.status_code == 415 and "Content-Type: application/json" in refused.json()["detail"]
    assert hosted.post("/hotlora/v1/datasets/x", content=b"{}", headers=JSON).status_code == 415


# -- listening ---------------------------------------------------------------------------------------------------------


def test_listening_beyond_this_computer_without_a_password_is_asked_for_by_name():
    for host in ("0.0.0.0", "192.168.1.5", "::", "my.name"):
        assert not is_local(host)
        with pytest.raises(UserError, match=f"cannot listen at {host}: .* --auth USER:PASSWORD, or --allow-anyone"):
            check_listening(host, has_password=False, anyone=False)
        check_listening(host, has_password=True, anyone=False)
        check_listening(host, has_password=False, anyone=True)
    for host in ("127.0.0.1", "localhost", "::1", "127.3.4.5"):
        check_listening(host, has_password=False, anyone=False)


def test_a_port_that_cannot_be_listened_at_is_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="a program listens there already, maybe HotLoRA. Open it there, or choose another --port"):
            check_port("127.0.0.1", taken.getsockname()[1])
        free = taken.getsockname()[1]
    check_port("127.0.0.1", free)
    for port in (0, -1, 99999):
        with pytest.raises(UserError, match="ports go from 1 to 65535"):
            check_port("127.0.0.1", port)
    with pytest.raises(UserError, match="there is no such address. Correct --host"):
        check_port("no such name.invalid", 7862)
