"""The buttons that steer a run while it trains: pause, free the GPU, stop, sample and save now."""

from typing import Any

import gradio as gr

from ..engine.jobs import Jobs
from .compat import answer, message
from .drawings import Drawing, widget


class Steering:
    """Buttons and answers; ``said`` is the page's message line."""

    def __init__(self, jobs: Jobs, said: Any):
        self._jobs, self._said = jobs, said

    def build(self) -> None:
        """Make the buttons, where one stands."""
        self._pause = gr.Button("Pause", size="sm", elem_id="hotlora_pause", interactive=False)
        self._free = gr.Button("Pause and free the GPU", size="sm", elem_id="hotlora_free", interactive=False)
        self._stop = gr.Button("Stop and save", size="sm", elem_id="hotlora_stop", interactive=False)
        self._sample = gr.Button("Sample now", size="sm", elem_id="hotlora_sample", interactive=False)
        self._save = gr.Button("Save now", size="sm", elem_id="hotlora_save", interactive=False)
        self.drawn = [self._pause, self._free, self._stop, self._sample, self._save]

    def connect(self, run: Any) -> None:
        """Answer presses. ``run``: the widget that names the run."""
        for button, handler in (
            (self._pause, self._pause_or_go_on),
            (self._free, self._pause_and_free),
            (self._stop, self._stop_run),
            (self._sample, self._sample_now),
            (self._save, self._save_now),
        ):
            answer(button.click, handler, [run], [self._said])

    def describe(self, status: str, *, alive: bool, trains: bool, freed: bool) -> list[Drawing]:
        """What each of ``drawn`` looks like.

        Args:
            alive: whether the run has begun and not ended.
            trains: whether it is one that trains, not a search.
            freed: whether it has given the GPU back.
        """
        steps = trains and alive and status != "drawing" and not freed
        able = (alive and status != "stopping" and not freed, alive or status == "waiting", steps, steps)
        pause = widget(value="Go on" if status == "paused" else "Pause", interactive=alive)
        return [pause, *(widget(interactive=is_able) for is_able in able)]

    def _pause_or_go_on(self, name: str) -> str:
        control = self._jobs.control(name)
        if control.paused:
            control.go_on()
            return ""
        control.pause()
        return message("Pausing after this step.")

    def _pause_and_free(self, name: str) -> str:
        self._jobs.control(name).pause(free=True)
        return message("Pausing after this step; then the model is unloaded.")

    def _stop_run(self, name: str) -> str:
        self._jobs.stop(name)
        return message("Stopping after this step, and saving.")

    def _sample_now(self, name: str) -> str:
        self._jobs.control(name).sample_now()
        return message("Sampling after this step.")

    def _save_now(self, name: str) -> str:
        self._jobs.control(name).save_now()
        return message("Saving after this step.")
