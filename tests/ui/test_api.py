"""The HTTP API over a toy host: the whole story, wrong names, and passwords."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hotlora.ui.api import basic_auth, build_router
from toy_studio import toy_studio, wait_until

RUNS = "/hotlora/v1/runs"
OPTIONS = {"output_name": "cat", "train_data_dir": "x", "epochs": 2000, "sample_prompts": ["a cat"], "tensorboard": False}


@pytest.fixture
def client(tmp_path):
    return connect(tmp_path)


def connect(tmp_path, passwords=None):
    app = FastAPI()
    app.include_router(build_router(toy_studio(tmp_path), basic_auth(passwords) if passwords else None))
    return TestClient(app)


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
    assert "Did you mean" in client.post(RUNS, json={"output_name": "cat", "epoch": 3}).json()["detail"]
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
