"""What makes a run fit is put into the recipe by a press."""

import pytest
from hotlora.engine.jobs import Jobs
from hotlora.sd.config import ImageConfig
from hotlora.ui.page import build_standalone_page
from toy import ToyHost, ToyTrainee
from toy_studio import toy_studio


class Tight(ToyTrainee):
    """No example fits without checkpointing, and two with it."""

    def loss(self, batch, draws):
        self.memory_limit = 2 if self.config.gradient_checkpointing else 0.5
        return super().loss(batch, draws)


@pytest.fixture
def studio(tmp_path):
    studio = toy_studio(tmp_path, defaults={"batch_size": 4})
    studio.jobs = Jobs(lambda: ToyHost(Tight), tmp_path / "runs", ImageConfig)
    return studio


def test_a_proposal_is_put_into_the_recipe_and_then_it_fits(serve, open_page, studio, tmp_path):
    page = open_page(serve(build_standalone_page(studio)), size="phone", theme="dark")
    page.locator("#hotlora_lora_rank[data-key=lora_rank]").wait_for()  # the script has begun
    page.locator("#hotlora_look_ahead").click()
    button = page.locator("#hotlora_outlook [data-state=failed] [data-proposal]")
    button.wait_for(timeout=120_000)  # the first look loads what trains
    told = page.locator("#hotlora_outlook").first.inner_text()
    assert "does not hold one example" in told and "gradient_checkpointing: true, batch_size: 2, gradient_accumulation_steps: 2" in told
    measured = page.locator("#hotlora_outlook li:has([data-proposal])").inner_text()
    assert "GB" in measured and "→" not in measured  # nothing is said of what was not measured
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    button.click()
    page.get_by_text("Advanced", exact=True).first.click()  # the newest Gradio has what it hides nowhere
    page.wait_for_function("document.querySelector('#hotlora_gradient_checkpointing input')?.checked")
    page.locator("#hotlora_said", has_text="The recipe has it now").or_(page.get_by_text("The recipe has it now")).first.wait_for()
    page.locator("#hotlora_look_ahead").click()
    page.locator("#hotlora_outlook [data-state=done]").wait_for()
    assert page.locator("[data-proposal]").count() == 0
