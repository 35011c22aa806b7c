"""In a running AUTOMATIC1111 or Forge: its own captioners write captions by our HTTP API, and its model is what it was afterwards.

They are downloaded by the program at their first use; where it has no internet, their files must lie where its own Interrogate wants them.
"""

import numpy as np
import pytest
from PIL import Image
from real_webui import ask, draw, in_each_webui
from waiting import wait_until

pytestmark = in_each_webui
ROUTE = "/hotlora/v1/captions"


@pytest.fixture
def folder(tmp_path):
    """Two pictures that the program, on this machine, can read."""
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((256, 256)).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("captioner", ["host-blip", "deepbooru"])
def test_the_programs_own_captioner_writes_captions_and_its_pictures_stay_the_same(folder, captioner):
    if captioner not in {kind["captioner"] for kind in ask(ROUTE)["captioners"]}:
        pytest.skip(f"NOT TESTED: this program has no {captioner}")
    before, memory = draw("red apple"), ask("/sdapi/v1/memory")
    ask(ROUTE, {"options": {"train_data_dir": str(folder)}, "settings": {"captioner": captioner, "caption_trigger": "zwx"}}, "POST")
    wait_until(lambda: not ask(ROUTE)["busy"], 600)
    state = ask(ROUTE)
    if "it cannot load it" in state["message"]:
        pytest.skip(f"NOT TESTED: this program has no weights of {captioner}: {state['message']}")
    assert (state["message"], state["written"], state["problems"]) == ("Done.", 2, [])
    for number in range(2):
        assert (folder / f"{number}.txt").read_text(encoding="utf-8").startswith("zwx, ")
    allocated = [state["cuda"].get("allocated", {}).get("current", 0) for state in (memory, ask("/sdapi/v1/memory"))]
    assert allocated[1] <= allocated[0] + 2**26, "graphics memory is given back"
    assert np.array_equal(draw("red apple"), before)
