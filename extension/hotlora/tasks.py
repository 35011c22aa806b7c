"""What can be trained: one record per task, from which the command line, the pages and the documentation take what differs.

A new family of models is one more record. What imports a heavy library, a host above all, is a function that does so when it is called:
whoever lists the tasks pays for none of them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .engine.config import RunConfig
from .llm.config import BUILT_IN_TEMPLATES, TextConfig
from .sd.config import ImageConfig
from .shipped import find_shipped

if TYPE_CHECKING:
    from .engine.examples import Columns, DataView, Finding
    from .engine.interfaces import Host, Progress


@dataclass(frozen=True)
class Task:
    """Something that can be trained, as everything outside the rooms sees it."""

    config_class: type[RunConfig]
    label: str  # what it is called where people choose
    data_word: str  # what its data is called
    draws_pictures: bool  # whether samples are pictures; answers else
    options_table: str  # the heading of its table in the documentation
    make_host: Callable[[], "Host"]  # the stand-alone one, which loads the models by itself
    look_at: Callable[[Any], "DataView"]  # given its config: what people are shown of their data; raises UserError
    check: Callable[[Any], None]  # its config: what can be seen to be wrong in a moment, the model apart; raises UserError
    check_model: Callable[[Any], None]  # the same of the model that the stand-alone host would load
    list_suffixes: Callable[[], Sequence[str]]  # of the files that a data set may hold
    presets: Mapping[str, Path]  # name -> run file that is shipped
    import_libraries: Callable[[], None]  # that the stand-alone host needs: seconds, the first time
    hides: Sequence[str] = ("slice_seconds", "training_share")  # options that make no sense without a host
    make_editor: Callable[[], Any] = lambda: None  # edits examples (``ui.studio.Editor``); None where nothing can be edited
    make_mender: Callable[[], Any] = lambda: None  # carries out what a report offers (``ui.studio.Mender``), where no editor does
    report: Callable[[Any], "Iterator[tuple[Progress, list[Finding]]]"] | None = None  # what commonly goes wrong with such data
    look_at_columns: Callable[[Any], "Columns"] | None = None  # given its config: the first rows of a table; raises UserError
    make_class_desk: Callable[[Any, Path], Any] = lambda jobs, folder: None  # draws regularisation pictures (``ui.studio.ClassPictures``)
    make_question_desk: Callable[[Any, Path], Any] = lambda jobs, folder: None  # writes questions about documents (``ui.studio.Questions``)
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)  # option -> what people choose from, or write something else
    grade: Callable[[str, str], Mapping[str, float]] | None = None  # right answer, given one -> scores by name, where there are answers

    @property
    def name(self) -> str:
        """The run's ``task_type``."""
        return self.config_class.TASK


# -- pictures ----------------------------------------------------------------------------------------------------------


def _make_diffusers_host() -> "Host":
    from .hosts.standalone.images import DiffusersHost

    return DiffusersHost()


def _import_for_images() -> None:
    from .hosts.standalone.libraries import import_libraries

    import_libraries(
        "diffusers.UNet2DConditionModel", "diffusers.AutoencoderKL", "transformers.CLIPTextModel", "transformers.CLIPTokenizerFast"
    )


def _look_at_pictures(config: ImageConfig) -> "DataView":
    from .pictures.album import look_at_pictures

    return look_at_pictures(config)


def _check_images(config: ImageConfig) -> None:
    from .sd.checking import check_images

    check_images(config)


def _check_image_model(config: ImageConfig) -> None:
    from .hosts.standalone.images import check_model

    check_model(config)


def _list_picture_suffixes() -> Sequence[str]:
    from .pictures.album import UPLOAD_SUFFIXES

    return UPLOAD_SUFFIXES


def _make_picture_editor() -> Any:
    from .hosts.standalone.counting import count_tokens
    from .pictures.editor import PictureEditor

    return PictureEditor(count_tokens)


def _make_class_desk(jobs: Any, folder: Path) -> Any:
    from .pictures.class_desk import ClassDesk

    return ClassDesk(jobs, folder)


def _report_pictures(config: ImageConfig) -> "Iterator[tuple[Progress, list[Finding]]]":
    from .hosts.standalone.counting import count_tokens
    from .pictures.health import find_health

    return find_health(config, count_tokens)


IMAGES = Task(
    config_class=ImageConfig,
    label="images",
    data_word="pictures",
    draws_pictures=True,
    options_table="options",
    make_host=_make_diffusers_host,
    look_at=_look_at_pictures,
    check=_check_images,
    check_model=_check_image_model,
    list_suffixes=_list_picture_suffixes,
    presets={
        "Style": find_shipped("configs/style.yaml"),
        "Character": find_shipped("configs/character.yaml"),
        "Small data": find_shipped("configs/small_data.yaml"),
        "Quick try": find_shipped("configs/quick_try.yaml"),
    },
    import_libraries=_import_for_images,
    make_editor=_make_picture_editor,
    report=_report_pictures,
    make_class_desk=_make_class_desk,
)


# -- texts -------------------------------------------------------------------------------------------------------------


def _make_transformers_host() -> "Host":
    from .hosts.standalone.texts import TransformersHost

    return TransformersHost()


def _import_for_texts() -> None:
    from .hosts.standalone.libraries import import_libraries

    import_libraries("transformers.AutoModelForCausalLM", "transformers.AutoTokenizer")


def _look_at_texts(config: TextConfig) -> "DataView":
    """With the base model's own tokenizer, where a base model is named."""
    from .hosts.standalone.texts import load_tokenizer
    from .llm.look import look_at_texts

    return look_at_texts(config, load_tokenizer(Path(config.base_model).expanduser()) if config.base_model else None)


def _report_texts(config: TextConfig) -> "Iterator[tuple[Progress, list[Finding]]]":
    from .hosts.standalone.texts import load_tokenizer
    from .llm.health import find_health

    return find_health(config, load_tokenizer(Path(config.base_model).expanduser()) if config.base_model else None)


def _make_text_mender() -> Any:
    from .llm.mending import TextMender

    return TextMender()


def _look_at_columns(config: TextConfig) -> "Columns":
    from .llm.mapping import look_at_columns

    return look_at_columns(config)


def _check_texts(config: TextConfig) -> None:
    from .llm.checking import check_texts

    check_texts(config)


def _check_text_model(config: TextConfig) -> None:
    from .hosts.standalone.texts import check_model

    check_model(config)


def _list_text_suffixes() -> Sequence[str]:
    from .llm.formats import SUFFIXES

    return SUFFIXES


def _make_question_desk(jobs: Any, folder: Path) -> Any:
    from .llm.questions.desk import QuestionDesk

    return QuestionDesk(jobs, folder)


def _grade_answer(wanted: str, given: str) -> Mapping[str, float]:
    from .llm.grading import grade_answer

    return grade_answer(wanted, given)


TEXTS = Task(
    config_class=TextConfig,
    label="text",
    data_word="texts",
    draws_pictures=False,
    options_table="text options",
    make_host=_make_transformers_host,
    look_at=_look_at_texts,
    check=_check_texts,
    check_model=_check_text_model,
    list_suffixes=_list_text_suffixes,
    report=_report_texts,
    make_mender=_make_text_mender,
    look_at_columns=_look_at_columns,
    presets={
        "FAQ and knowledge": find_shipped("configs/faq.yaml"),
        "Fixed format": find_shipped("configs/fixed_format.yaml"),
        "Tone of voice": find_shipped("configs/tone_of_voice.yaml"),
        "Continued text": find_shipped("configs/continued_text.yaml"),
    },
    import_libraries=_import_for_texts,
    hides=("slice_seconds", "training_share", "metadata_path"),
    make_question_desk=_make_question_desk,
    grade=_grade_answer,
    choices={"chat_template": BUILT_IN_TEMPLATES, "target_modules": ("all-linear", "attention")},
)


def check_beside(task: Task, config: RunConfig, host: Any) -> None:
    """What can be seen in a moment to be wrong with a run that is to train beside a host's program, with the model that it would load.

    Raises:
        UserError: for that.
    """
    from .hosts.shared.devices import check_device

    check_device(config.train_device)
    task.check_model(replace(config, base_model=str(host.find_base(replace(config)))))


TASKS = {task.name: task for task in (IMAGES, TEXTS)}
