"""What the program's API answers while a run has had the model unloaded (*Pause and free the GPU*)."""

from ...engine.job import Job


def refuse_chat(job: Job | None) -> None:
    """Raise the program's own error for *not available now*, with a sentence, where this run has had its model unloaded: its API would
    stumble over the missing tokenizer otherwise, and say *Internal Server Error*. Its page says by itself that no model is loaded."""
    from modules import shared

    if shared.model is None and job is not None and job.control.freeing:
        from modules.api.errors import ServiceUnavailableError

        raise ServiceUnavailableError(
            f"No model is loaded: it was unloaded to free its memory while '{job.name}' is paused. "
            "Press Go on in the Train LoRA tab: it is loaded again."
        )
