"""The HTTP API over a toy host: the whole story, wrong names, and passwords."""

import base64
import dataclasses
import io
import json
import os
import zipfile
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.captioning.desk import CaptionDesk
from hotlora.captioning.kinds import ALONE
from hotlora.engine.access import Access
from hotlora.engine.examples import DataView, Example
from hotlora.engine.jobs import Jobs
from hotlora.engine.options import options_of
from hotlora.pictures.album import look_at_pictures
from hotlora.sd.config import ImageConfig
from hotlora.ui.api import basic_auth, build_router
from toy import ToyHost
from toy_studio import Preparer, toy_studio
from waiting import wait_until

ROOT = "/hotlora/v1"
RUNS = f"{ROOT}/runs"
OPTIONS = {"output_name": "cat", "train_data_dir": "x", "epochs": 2000, "sample_prompts": ["a cat"], "tensorboard": False}


@pytest.fixture
def client(tmp_path):
    return connect(tmp_path)


def connect(tmp_path, passwords=None, studio=None):
    app = FastAPI()
    studio = studio or toy_studio(tmp_path, captions=CaptionDesk(ALONE))
    app.include_router(build_router(studio, basic_auth(passwords) if passwords else None))
    client = TestClient(app)
    client.app_folder = tmp_path
    return client


def test_runs_of_before_a_restart_are_gone_on_with_or_forgotten(client, tmp_path):
    for name in ("one", "two"):
        client.post(RUNS, json={**OPTIONS, "output_name": name})
    queue = client.get(f"{ROOT}/queue").json()
    assert queue == {"line": ["one", "two"], "left": []}
    for name in ("two", "one"):
        client.post(f"{RUNS}/{name}/stop")
    wait_until(lambda: not client.get(f"{ROOT}/queue").json()["line"])
    (tmp_path / "runs" / "queue.json").write_text('["two", "never"]')
    again = connect(tmp_path)
    left = [{"name": "two", "step": 0, "lost_steps": 0, "trials": 0}]
    assert again.get(f"{ROOT}/queue").json() == {"line": [], "left": left}
    answer = again.post(f"{ROOT}/queue", json={}).json()
    assert answer == {"line": ["two"], "left": [], "refused": []}
    again.post(f"{RUNS}/two/stop")
    wait_until(lambda: not again.get(f"{ROOT}/queue").json()["line"])
    (tmp_path / "runs" / "queue.json").write_text('["one"]')
    assert connect(tmp_path).delete(f"{ROOT}/queue").json() == {"line": [], "left": []}


def test_a_grid_is_asked_for_looked_at_and_stopped(client):
    client.post(RUNS, json={**OPTIONS, "save_steps": 2})
    assert client.get(f"{RUNS}/cat/grid").status_code == client.post(f"{RUNS}/dog/grid", json={}).status_code == 404
    wait_until(lambda: any(file["kind"] == "checkpoint" for file in client.get(f"{RUNS}/cat").json()["files"]))
    assert client.post(f"{RUNS}/cat/grid", json={"checkpoints": ["step 2"], "weights": [0.5]}).json() == {"most": 1}  # while it trains
    wait_until(lambda: client.get(f"{RUNS}/cat/grid").status_code == 200 and client.get(f"{RUNS}/cat/grid").json()["drawn"] == 1)
    ((cell,),) = client.get(f"{RUNS}/cat/grid").json()["cells"]
    assert cell["adapter"] == "cat-step00000002" and client.get(f"{RUNS}/cat/grid/{cell['file']}").text.startswith("0.5 ")
    assert client.get(f"{RUNS}/cat/grid/config.yaml").status_code == 404
    assert client.post(f"{RUNS}/cat/grid", json={"rows": "colour"}).status_code == 400
    client.post(f"{RUNS}/cat/stop")
    wait_until(lambda: client.get(f"{RUNS}/cat").json()["status"] == "stopped")
    assert client.post(f"{RUNS}/cat/grid", json={"checkpoints": ["step 2"], "weights": [0.25]}).status_code == 202
    wait_until(lambda: client.get(f"{RUNS}/cat/grid").json()["drawn"] == 1 and not client.get(f"{ROOT}/queue").json()["line"])
    assert client.get(f"{RUNS}/cat").json()["status"] == "stopped"


def test_a_run_from_start_to_deletion(client):
    def shown():
        return client.get(f"{RUNS}/cat").json()

    assert client.post(RUNS, json=OPTIONS).status_code == 201
    wait_until(lambda: shown()["step"] > 2)
    first = client.get(f"{RUNS}/cat/events?since=0&limit=3").json()
    assert first["next"] == 3 and [event["type"] for event in first["events"]][:2] == ["Preparing", "Started"]
    assert client.get(f"{RUNS}/cat/events?since=3").json()["events"][0]["type"] == "Step"
    client.post(f"{RUNS}/cat/pause")
    wait_until(lambda: shown()["status"] == "paused")
    assert client.post(f"{RUNS}/cat/pause_and_free").status_code == 200
    wait_until(lambda: "to free its memory" in client.get(f"{RUNS}/cat").json()["log"][-1]["text"])
    client.post(f"{RUNS}/cat/go_on")
    client.post(f"{RUNS}/cat/sample")
    sample = wait_until(lambda: shown()["samples"])[0]
    assert client.get(f"{RUNS}/cat/samples/{sample['file']}").status_code == 200
    assert client.delete(f"{RUNS}/cat").status_code == 400  # it trains
    client.post(f"{RUNS}/cat/stop")
    wait_until(lambda: shown()["status"] == "stopped")
    stopped_at = shown()["step"]
    client.post(f"{RUNS}/cat/resume")
    wait_until(lambda: shown()["step"] > stopped_at)
    client.post(f"{RUNS}/cat/stop")
    wait_until(lambda: shown()["status"] == "stopped")
    assert client.delete(f"{RUNS}/cat").json() == {"deleted": "cat"}
    assert client.get(RUNS).json() == []


def test_what_is_wrong_is_said(client, tmp_path):
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    assert "here it is called 'epochs'" in client.post(RUNS, json={"output_name": "cat", "epoch": 3}).json()["detail"]
    assert client.post(RUNS, json={"output_name": "../cat"}).status_code == 400
    for path in (f"{RUNS}/none", f"{RUNS}/..%2f..", f"{RUNS}/none/samples/..%2f..%2fsecret.txt"):
        assert client.get(path).status_code in (404, 405)
    assert client.post(f"{RUNS}/none/stop").status_code == 404


def test_options_presets_and_description_are_there(client):
    assert client.get("/hotlora/v1/options").json()["lora_rank"]["default"] == 16
    assert "Style" in client.get("/hotlora/v1/presets").json()
    assert f"{RUNS}/{{name}}/events" in client.get("/openapi.json").json()["paths"]


def test_passwords_are_asked_for(tmp_path):
    client = connect(tmp_path, {"ann": "secret"})
    assert client.get(RUNS).status_code == 401
    assert client.get(RUNS, auth=("ann", "wrong")).status_code == 401
    assert client.get(RUNS, auth=("bob", "")).status_code == 401
    assert client.get(RUNS, auth=("ann", "secret")).status_code == 200


def finish(client, name="cat", **options):
    """A short run from start to end; what is shown of it then."""
    assert client.post(RUNS, json={**OPTIONS, "output_name": name, "max_steps": 3, **options}).status_code == 201
    wait_until(lambda: client.get(f"{RUNS}/{name}").json()["status"] == "done")
    return client.get(f"{RUNS}/{name}").json()


def test_a_finished_run_tells_everything(client):
    shown = finish(client, validation_split=0.1, validation_every_steps=2)
    assert shown == shown | {"name": "cat", "status": "done", "step": 3, "total_steps": 3, "seconds_left": None, "message": None}
    assert 0 < shown["loss"] < 10 and 0 < shown["validation_loss"] < 10 and shown["started_at"] > 1.7e9
    assert shown["options"]["lora_rank"] == 16 and shown["options"]["output_name"] == "cat" and shown["summary"] == {"examples": 13}
    assert [(file["kind"], file["step"]) for file in shown["files"]] == [("best", 2), ("final", 3)]
    assert [line["text"] for line in shown["log"]][0] == "Training 3 steps." and shown["log"][-1]["text"] == "Finished."
    assert client.get(f"{RUNS}/cat/samples/{shown['sheet']}").status_code == 200
    brief = client.get(RUNS).json()
    assert brief == [{key: shown[key] for key in brief[0]}]


def test_a_name_that_is_taken_and_what_does_not_train_are_refused(client):
    finish(client)
    for refused in (
        client.post(RUNS, json={**OPTIONS}),
        client.post(f"{RUNS}/cat/pause"),
        client.post(f"{RUNS}/cat/stop"),
        client.post(f"{RUNS}/cat/resume", json={"lora_rank": 7}),
        client.post(f"{RUNS}/cat/resume", json={"no_such_option": 7}),
        client.post(RUNS, json={"lora_rank": 4}),
    ):
        assert refused.status_code == 400 and refused.json()["detail"].startswith("cannot "), refused.text
    assert client.post(f"{RUNS}/cat/fly").status_code == 404
    assert client.post(RUNS, json=["no", "options"]).status_code == 422
    assert client.post(f"{RUNS}/cat/resume", json={"max_steps": 5}).json()["name"] == "cat"
    wait_until(lambda: client.get(f"{RUNS}/cat").json()["step"] == 5)


def test_a_run_that_waits_is_shown_so_and_leaves_the_line_when_it_is_stopped(client):
    client.post(RUNS, json=OPTIONS)
    assert client.post(RUNS, json={**OPTIONS, "output_name": "dog"}).json()["status"] == "waiting"
    assert client.post(f"{RUNS}/dog/stop").json()["status"] == "not started"
    client.post(f"{RUNS}/cat/stop")
    wait_until(lambda: client.get(f"{RUNS}/cat").json()["status"] == "stopped")


def test_events_are_read_in_pieces_that_fit_together(client, tmp_path):
    finish(client)
    path = tmp_path / "runs" / "cat" / "events.jsonl"
    expected = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found, since = [], 0
    while since < len(expected):
        piece = client.get(f"{RUNS}/cat/events?since={since}&limit=2").json()
        assert 1 <= len(piece["events"]) <= 2 and piece["next"] == since + len(piece["events"])
        found, since = found + piece["events"], piece["next"]
    assert found == [{"index": index, **event} for index, event in enumerate(expected)]
    assert client.get(f"{RUNS}/cat/events?since={since}").json() == {"events": [], "next": since}
    for wrong in ("since=-1", "since=x", "limit=0", "limit=1000000"):
        assert client.get(f"{RUNS}/cat/events?{wrong}").status_code == 422


def test_events_that_are_no_json_numbers_or_half_written_do_no_harm(client, tmp_path):
    finish(client)
    path = tmp_path / "runs" / "cat" / "events.jsonl"
    count = len(path.read_bytes().splitlines())
    with open(path, "ab") as file:
        file.write(b'{"type": "Validated", "time": 1.0, "step": 3, "loss": Infinity, "best": false}\n{"type": "Warned", "message": "\xc3')
    answer = client.get(f"{RUNS}/cat/events?since={count}").json()
    assert answer["next"] == count + 1 and answer["events"][0]["loss"] is None
    assert client.get(f"{RUNS}/cat").json()["validation_loss"] is None
    assert client.get(RUNS).status_code == 200


def test_a_run_that_cannot_be_read_does_not_hide_the_others(client, tmp_path):
    finish(client)
    (tmp_path / "runs" / "locked" / "events.jsonl").mkdir(parents=True)  # as good as a file that may not be read
    (tmp_path / "runs" / "locked" / "config.yaml").write_text("{}")
    listed = {run["name"]: run for run in client.get(RUNS).json()}
    assert listed["cat"]["status"] == "done" and listed["locked"]["status"] is None and "cannot read" in listed["locked"]["message"]


@pytest.mark.parametrize("name", ["..", "..%2f..", "%2e%2e", "..%5c..", "cat%2f..%2fcat", "%2e%2fcat", "cat%00", "*", "C:", "~"])
def test_no_name_and_no_file_leads_out_of_a_runs_folder(client, tmp_path, name):
    (tmp_path / "runs" / "cat" / "samples").mkdir(parents=True)
    (tmp_path / "runs" / "cat" / "config.yaml").write_text("output_name: cat")
    (tmp_path / "config.yaml").write_text("secret: 1")  # which makes a run of the folder above, if it can be reached
    for way in ("", "/events", "/samples/a.png"):
        answer = client.get(f"{RUNS}/{name}{way}")
        assert answer.status_code in (404, 405) and "secret" not in answer.text
    assert client.delete(f"{RUNS}/{name}").status_code in (404, 405)
    for file in ("..%2fconfig.yaml", "config.yaml", "%2e%2e%2fconfig.yaml", "..%5cconfig.yaml", "..%2f..%2f..%2fconfig.yaml"):
        assert client.get(f"{RUNS}/cat/samples/{file}").status_code == 404
    assert (tmp_path / "config.yaml").exists() and (tmp_path / "runs" / "cat" / "config.yaml").exists()


def test_a_look_ahead_is_started_and_asked_for(client):
    assert client.get(f"{ROOT}/check").status_code == 404
    started = client.post(f"{ROOT}/check", json={**OPTIONS, "max_steps": 9})
    assert started.status_code == 202 and "busy" in started.json()
    found = wait_until(lambda: not (seen := client.get(f"{ROOT}/check").json())["busy"] and seen)
    assert found["error"] is None and found["summary"] == {"examples": 13}
    assert found["estimate"]["total_steps"] == 9 and found["estimate"]["seconds"] > 0 and found["estimate"]["free_bytes"] > 0
    assert client.post(f"{ROOT}/check", json={"lora_rank": 0}).status_code == 400
    assert client.get(RUNS).json() == []


def test_a_look_ahead_is_given_up_when_that_is_asked_for(tmp_path):
    jobs = Jobs(lambda: ToyHost(Preparer), tmp_path / "runs", ImageConfig)
    client = connect(tmp_path, studio=dataclasses.replace(toy_studio(tmp_path), jobs=jobs))
    assert client.delete(f"{ROOT}/check").status_code == 404
    client.post(f"{ROOT}/check", json=OPTIONS)
    wait_until(lambda: client.get(f"{ROOT}/check").json()["progress"])
    assert client.post(f"{ROOT}/check", json=OPTIONS).status_code == 400  # one at a time
    assert client.delete(f"{ROOT}/check").status_code == 200
    found = wait_until(lambda: not (seen := client.get(f"{ROOT}/check").json())["busy"] and seen)
    assert found["cancelled"] and found["estimate"] is None and found["error"] is None
    refused = client.delete(f"{ROOT}/check")
    assert refused.status_code == 400 and refused.json()["detail"].startswith("cannot cancel: nothing is being looked at")


def test_data_is_shown_as_the_page_shows_it(tmp_path):
    def look(config):
        assert config.train_data_dir == "pictures"
        return DataView(7, [Example("a.png", "a cat", b"JPEG"), Example("b.png", "", problem="broken")], [("pictures", "7")], ["Beware."])

    client = connect(tmp_path, studio=dataclasses.replace(toy_studio(tmp_path), look_at=look))
    plain = client.post(f"{ROOT}/data", json={"train_data_dir": "pictures"}).json()
    assert plain == {
        "count": 7,
        "facts": {"pictures": "7"},
        "notes": ["Beware."],
        "examples": [
            {"name": "a.png", "text": "a cat", "problem": None, "warning": None},
            {"name": "b.png", "text": "", "problem": "broken", "warning": None},
        ],
    }
    seen = client.post(f"{ROOT}/data?thumbnails=true", json={"train_data_dir": "pictures"}).json()["examples"]
    assert base64.b64decode(seen[0]["thumbnail"].removeprefix("data:image/jpeg;base64,")) == b"JPEG" and seen[1]["thumbnail"] is None


def test_files_are_uploaded_into_a_data_set(client, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("10_cat/b.png", b"B")
    parts = [("files", ("a.png", b"A")), ("files", ("../../図.txt", "猫".encode())), ("files", ("more.zip", buffer.getvalue()))]
    answer = client.post(f"{ROOT}/datasets/my cats", files=parts)
    assert answer.status_code == 201 and answer.json()["message"] == "Added 3 files to 'my cats'."
    folder = tmp_path / "data" / "my cats"
    assert answer.json()["folder"] == str(folder)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {"a.png", "図.txt", "10_cat/b.png"}
    assert client.get(f"{ROOT}/datasets").json() == [{"name": "my cats", "folder": str(folder)}]
    for name, file in (("..", "a.png"), ("%2e%2e%2fx", "a.png"), ("con", "a.png"), ("dogs", "a.exe"), ("dogs", "..")):
        assert client.post(f"{ROOT}/datasets/{name}", files=[("files", (file, b"A"))]).status_code in (400, 404, 405)
    assert client.post(f"{ROOT}/datasets/dogs").status_code == 422
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["my cats"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_what_this_program_may_not_read_is_refused_everywhere(tmp_path):
    jobs = Jobs(ToyHost, tmp_path / "runs", ImageConfig, check_access=Access([tmp_path / "runs", tmp_path / "data"]).check)
    client = connect(tmp_path, studio=dataclasses.replace(toy_studio(tmp_path), jobs=jobs))
    for way in ("runs", "check", "data"):
        answer = client.post(f"{ROOT}/{way}", json={"output_name": "cat", "train_data_dir": "/etc"})
        assert answer.status_code == 400 and "only these folders may be used" in answer.json()["detail"]
    finish(client, train_data_dir=str(tmp_path / "data"))
    refused = client.post(f"{RUNS}/cat/resume", json={"validation_dir": "/etc"})
    assert refused.status_code == 400 and "validation_dir" in refused.json()["detail"]


def test_options_are_listed_with_all_that_a_form_needs(tmp_path):
    studio = toy_studio(tmp_path, defaults={"lora_rank": 8}, choices={"sample_sampler": lambda: ["Euler", "Heun"]})
    options = connect(tmp_path, studio=studio).get(f"{ROOT}/options").json()
    assert list(options) == list(options_of(ImageConfig)) and all(option["doc"] for option in options.values())
    assert options["lora_rank"] == options["lora_rank"] | {"default": 8, "minimum": 1, "maximum": 100_000, "advanced": False, "fixed": True}
    assert options["sample_sampler"]["choices"] == ["Euler", "Heun"] and "cosine" in options["scheduler"]["choices"]


def test_presets_are_told_with_what_they_set(client):
    for name in client.get(f"{ROOT}/presets").json():
        assert client.get(f"{ROOT}/presets/{name}").json()["lora_rank"] >= 1
    for name in ("none", "..%2fsecret", "..%5csecret"):
        assert client.get(f"{ROOT}/presets/{name}").status_code == 404


def routes_of(client):
    """Every way into the API: method and address."""
    paths = client.get("/openapi.json").json()["paths"]
    return [(method, path, told) for path, methods in paths.items() for method, told in methods.items()]


def test_every_route_is_described_for_people(client):
    routes = routes_of(client)
    assert len(routes) == 32
    for method, path, told in routes:
        assert path.startswith(f"{ROOT}/") and told["tags"] == ["HotLoRA"]
        assert told["summary"] and not told["summary"].endswith("."), (method, path)
        assert {"400", "404"} <= told["responses"].keys()
    assert client.get("/docs").status_code == 200


def test_no_route_lets_in_who_is_not_known(tmp_path):
    client = connect(tmp_path, {"ann": "secret", "bob": "pass:word", "guest": ""})
    for method, path, _ in routes_of(client):
        address = path.format(name="cat", action="stop", file="a.png")
        for who in (None, ("ann", "wrong"), ("ann", ""), ("bob", "secret"), ("guest", ""), ("", ""), ("ann", "secret ")):
            refused = client.request(method, address, **({"auth": who} if who else {}))
            assert refused.status_code == 401 and refused.headers["WWW-Authenticate"].startswith("Basic"), (method, path, who)
        assert client.request(method, address, auth=("bob", "pass:word")).status_code != 401


ODD = ["\ud800", "a\0b", "~nosuchuser/x", "a" * 300, "a/" * 3000, "", "\n", "/dev/null/x", "😀" * 100]


@pytest.mark.parametrize("odd", ODD)
def test_odd_texts_are_answered_with_a_sentence_and_never_with_500(tmp_path, odd):
    studio = dataclasses.replace(toy_studio(tmp_path), look_at=look_at_pictures)
    app = FastAPI()
    app.include_router(build_router(studio, None))
    client = TestClient(app, raise_server_exceptions=False)
    named = ("train_data_dir", "output_name", "trigger_word", "epochs")
    bodies = [*({name: odd} for name in named), {odd: 1}, {"sample_prompts": [odd]}, odd, [odd]]
    for way in ("data", "check", "runs", "runs/cat/resume"):
        for body in bodies:
            answer = client.post(f"{ROOT}/{way}", content=json.dumps(body), headers={"content-type": "application/json"})
            assert answer.status_code < 500, (way, body, answer.text)
            assert answer.status_code < 400 or answer.json()["detail"].startswith("cannot "), answer.text
    for way in (f"runs/{quote(odd, errors='replace')}", f"presets/{quote(odd, errors='replace')}"):
        assert client.get(f"{ROOT}/{way}").status_code < 500
    name = odd.replace("\ud800", "?").replace("\0", "").replace("\n", "") or "x"
    answer = client.post(f"{ROOT}/datasets/s", files=[("files", (f"{name}.png", b"A"))])
    assert answer.status_code < 500
    wait_until(lambda: studio.jobs.current is None)
    assert client.get(RUNS).status_code == 200


def test_bodies_that_are_no_json_and_numbers_that_are_none_are_answered(client):
    for body in (b"", b"{", b"\xff", b'{"a": 1', b"[" * 100_000, b"nul", b'"\\ud800"', b'{"epochs": 1e999}', b'{"epochs": NaN}', b"\0"):
        for way in ("data", "check", "runs"):
            answer = client.post(f"{ROOT}/{way}", content=body, headers={"content-type": "application/json"})
            assert 400 <= answer.status_code < 500, (body[:20], answer.status_code)
    for since in ("99999999999999999999999", "-1", "x", "1e3", str(2**63)):
        (client.app_folder / "runs" / "cat").mkdir(parents=True, exist_ok=True)
        (client.app_folder / "runs" / "cat" / "config.yaml").write_text("output_name: cat\nsheet_weights: [.nan]\n")
        (client.app_folder / "runs" / "cat" / "events.jsonl").write_text('{"type": "Warned", "time": 1, "message": "x"}\n')
        assert client.get(f"{RUNS}/cat/events?since={since}").status_code in (200, 422)
    assert client.get(f"{RUNS}/cat").json()["options"]["sheet_weights"] == [None]


def test_a_name_of_another_age_of_the_file_system_is_listed(client):
    folder = client.app_folder / "runs" / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system knows Unicode only")
    (folder / "config.yaml").write_text("output_name: x\n")
    assert client.get(RUNS).json()[0]["name"] == folder.name
    assert "cannot find" in client.get(f"{RUNS}/none").json()["detail"]
