"""The part of the HTTP API that is about regularisation pictures."""

from dataclasses import asdict

from fastapi import APIRouter, Body

from .studio import ClassPictures, Studio


def add_class(router: APIRouter, studio: Studio, desk: ClassPictures) -> None:
    """Routes. ``options`` are a run's, of which those of samples count, and the data where no number is given."""

    @router.get("/class", summary="How far regularisation pictures are")
    def show() -> dict:
        """``busy``; ``done`` of ``total``; their ``folder``; whether they are ``complete``; ``message``; the ``number`` of the drawing, 0
        before the first."""
        return asdict(desk.status)

    @router.post("/class", status_code=202, summary="Draw regularisation pictures with the model itself")
    def draw(
        words: list[str] = Body(..., embed=True, description="Prompts, taken in turn.", example=["photo of a person"]),  # noqa: B008
        count: int = Body(0, embed=True, ge=0, description="How many; 0: as many as pictures times repeats, at most 400."),
        name: str = Body("", embed=True, description="Of their folder among the data sets; by the words, where it is empty."),
        options: dict = Body({}, embed=True),  # noqa: B008
    ) -> dict:
        """They are drawn in line with the runs, each with its words as caption. What is drawn already is not drawn again. The answer is as
        of ``GET /class``. Refused while others are drawn, and for a folder whose pictures were drawn otherwise."""
        values = dict(studio.settings()) | options
        config = studio.jobs.build_config(values | {"output_name": values.get("output_name") or "unnamed"})
        return asdict(desk.start(config, words, count, name))

    @router.delete("/class", summary="Stop drawing regularisation pictures")
    def stop() -> dict:
        """Takes effect after the picture that is drawn now. What is drawn stays."""
        desk.stop()
        return show()
