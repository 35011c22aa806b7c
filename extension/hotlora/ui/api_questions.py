"""The part of the HTTP API that is about questions out of documents, and about chats."""

from dataclasses import asdict

from fastapi import APIRouter, Body, Query
from fastapi import Path as InPath

from .studio import Chats, Questions, Studio

_OPTIONS = {"train_data_dir": "documents/handbook"}
_SETTINGS = {"questions_per_passage": 2}
_NAME = InPath(..., description="Of the data set.")


def add_questions(router: APIRouter, studio: Studio, desk: Questions) -> None:
    """Routes to the writing. ``options`` are a run's, of which the data folder counts: the documents."""

    @router.get("/questions", summary="How far questions about documents are, and what there is to review")
    def show() -> dict:
        """``busy``; ``done`` of ``total`` questions asked; how many are ``kept``; ``dropped``: why, and how many; ``name`` and ``folder``
        of the data set; ``message``; ``problems``: what of the documents is left out; ``data_sets``: what can be reviewed."""
        return asdict(desk.status) | {"data_sets": desk.list_folders()}

    @router.post("/questions", status_code=202, summary="Have questions about documents written by the model itself")
    def write(
        options: dict = Body(_OPTIONS, embed=True),  # noqa: B008
        settings: dict = Body(_SETTINGS, embed=True),  # noqa: B008
        name: str = Body("", embed=True, description="Of their data set; by the documents, where it is empty."),
    ) -> dict:
        """``settings``: questions_per_passage, passage_characters, answer_tokens, question_temperature, question_instruction,
        answer_instruction. They are written in line with the runs. What was asked already is not asked again. Refused while others are
        written, and for a data set that was written otherwise."""
        values = dict(studio.settings()) | options
        config = studio.jobs.build_config(values | {"output_name": values.get("output_name") or "unnamed"})
        desk.start(config, settings, name)
        return show()

    @router.delete("/questions", summary="Stop writing questions")
    def stop() -> dict:
        """Takes effect after the question that is written now. What is written stays."""
        desk.stop()
        return show()

    _add_review(router, desk)


def _add_review(router: APIRouter, desk: Questions) -> None:
    @router.get("/questions/{name}", summary="Rows that wait for review")
    def review(
        name: str = _NAME,
        start: int = Query(0, ge=0),
        count: int = Query(100, ge=1, le=1000),
        refused: bool = Query(False, description="Those that were refused instead."),
    ) -> dict:
        """``rows`` from ``start`` of ``shown``, each with its ``key``, ``question``, ``answer``, ``source``, ``number`` and text of the
        ``passage``; and how many are ``accepted``, ``open`` and ``refused``."""
        return asdict(desk.review(name, start=start, count=count, refused=refused))

    @router.post("/questions/{name}", summary="Accept, refuse, change rows")
    def decide(
        name: str = _NAME,
        verdict: str = Body("", embed=True, description="accept, refuse or reopen; empty to change words only."),
        keys: list[str] | None = Body(None, embed=True, description="Of the rows; all that wait, where none are given."),  # noqa: B008
        texts: dict[str, list[str]] = Body({}, embed=True, description="Key -> question and answer, changed first."),  # noqa: B008
    ) -> dict:
        """``message`` says what was done. Only what is accepted is learned."""
        return {"message": desk.decide(name, verdict, keys, texts)}


def add_chats(router: APIRouter, chats: Chats) -> None:
    """Routes to the conversations that the program keeps."""

    @router.get("/chats", summary="The conversations that this program keeps")
    def list_chats() -> list:
        """Each with its ``key``, ``name``, ``partner``, ``day`` and number of answers (``turns``)."""
        return [asdict(chat) for chat in chats.list_chats()]

    @router.post("/chats", status_code=201, summary="Make a data set of some of them")
    def use(
        keys: list[str] = Body(..., embed=True),  # noqa: B008
        name: str = Body("", embed=True, description="Of the data set."),
    ) -> dict:
        """Set ``train_data_dir`` to the answer's ``folder``."""
        folder, told = chats.use(keys, name)
        return {"folder": str(folder), "message": told}
