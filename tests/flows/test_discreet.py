from __future__ import annotations

import json
import os

from flows.discreet import SHOWN_ITEMS, discreet_flow
from flows.process import process_dataset

SECRET = "hunter2-hunter2"
URL = f"https://user:{SECRET}@host/v.mp4?signature={SECRET}"


def test_credentials_do_not_reach_the_parameters_that_prefect_stores(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    dataset = {"inputs": [URL, SECRET, os.fsdecode(b"v\xff")], "out": URL, "config": {"keep": "all"}, "run_id": None}
    stored = json.dumps(process_dataset.serialize_parameters(dataset)).encode()
    assert SECRET.encode() not in stored
    assert b"host/v.mp4" in stored


def test_thousands_of_inputs_stay_below_the_size_the_server_accepts():
    inputs = [f"/data/{index:06d}/some-long-name-of-a-video.mp4" for index in range(20_000)]
    stored = process_dataset.serialize_parameters({"inputs": inputs, "out": "out"})
    assert len(json.dumps(stored)) < 512 * 1024
    assert stored["inputs"][-1] == f"... and {20_000 - SHOWN_ITEMS} more"


def test_the_flow_itself_gets_its_parameters_as_they_are(prefect_api):
    @discreet_flow(name="echo", validate_parameters=False)
    def echo(urls: list[str]) -> list[str]:
        return urls

    assert echo([URL] * (SHOWN_ITEMS + 1)) == [URL] * (SHOWN_ITEMS + 1)
