"""Who implements what: protocols between the rooms, held by type and by name.

What stands under TYPE_CHECKING is checked by mypy, a part of `make lint`: signatures and types of attributes. The tests look at what runs:
a trainee that lacks one member of an optional protocol would not be asked for the others, and nobody would be told.
"""

from typing import TYPE_CHECKING

import pytest
from hotlora.engine.interfaces import (
    Foreseeing,
    Grading,
    Keeping,
    Previewing,
    Renewing,
    Resembling,
    Showing,
    Spreading,
    Trainee,
    Validating,
)
from hotlora.engine.redrawing import Asking, Redrawing
from hotlora.llm.questions.job import Answering
from hotlora.llm.trainee import TextTrainee
from hotlora.sd.trainee import ImageBatch, ImageTrainee

if TYPE_CHECKING:
    from hotlora.captioning.blip import Blip
    from hotlora.captioning.captioner import Captioner
    from hotlora.engine.adapters import AdapterSet
    from hotlora.engine.freeing import Freeing
    from hotlora.engine.interfaces import Adapters, Batch, Host, Preview
    from hotlora.hosts.a1111.host import A1111Host
    from hotlora.hosts.a1111.model import A1111Model
    from hotlora.hosts.forge.host import ForgeHost
    from hotlora.hosts.forge.model import ForgeModel
    from hotlora.hosts.shared.causal_model import CausalModel
    from hotlora.hosts.standalone.images import DiffusersHost, DiffusersModel
    from hotlora.hosts.standalone.texts import TransformersHost
    from hotlora.hosts.textgen.adapters import AppliedAdapters
    from hotlora.hosts.textgen.host import TextgenHost
    from hotlora.hosts.textgen.live import LiveAnswers
    from hotlora.llm.batches import TextBatch
    from hotlora.llm.comparison import Completion
    from hotlora.llm.model import TextModel
    from hotlora.pictures.sheet import Sample
    from hotlora.sd.model import ImageModel
    from hotlora.ui.studio import Live, Shelf

    trainees: list[type[Trainee]] = [ImageTrainee, TextTrainee]
    validating: list[type[Validating]] = [ImageTrainee, TextTrainee]
    spreading: list[type[Spreading]] = [ImageTrainee, TextTrainee]
    resembling: list[type[Resembling]] = [ImageTrainee]
    foreseeing: list[type[Foreseeing]] = [ImageTrainee]
    renewing: list[type[Renewing]] = [ImageTrainee, TextTrainee]
    previewing: list[type[Previewing]] = [ImageTrainee, TextTrainee]
    grading: list[type[Grading]] = [TextTrainee]
    showing: list[type[Showing]] = [TextTrainee]
    batches: list[type[Batch]] = [ImageBatch, TextBatch]
    previews: list[type[Preview]] = [Sample, Completion]
    adapters: list[type[Adapters]] = [AdapterSet]
    freeing: list[type[Freeing]] = [A1111Host, ForgeHost, TextgenHost]
    hosts: list[type[Host]] = [DiffusersHost, TransformersHost, A1111Host, ForgeHost, TextgenHost]
    image_models: list[type[ImageModel]] = [DiffusersModel, A1111Model, ForgeModel]
    text_models: list[type[TextModel]] = [CausalModel]
    captioners: list[type[Captioner]] = [Blip]
    shelves: list[type[Shelf]] = [AppliedAdapters]
    lives: list[type[Live]] = [LiveAnswers]


def members(protocol: type) -> set[str]:
    """What the protocol itself declares."""
    return {name for name in (*vars(protocol), *vars(protocol).get("__annotations__", {})) if not name.startswith("_")}


@pytest.mark.parametrize("trainee", [ImageTrainee, TextTrainee])
@pytest.mark.parametrize("protocol", [Validating, Spreading, Resembling, Grading, Previewing, Showing, Keeping, Foreseeing, Renewing])
def test_a_trainee_has_all_of_an_optional_protocol_or_nothing(trainee: type, protocol: type):
    has = {name for name in members(protocol) if hasattr(trainee, name)}
    assert has in (set(), members(protocol))


@pytest.mark.parametrize("trainee", [ImageTrainee, TextTrainee])
def test_a_trainee_offers_what_a_loop_asks_of_it_and_little_else(trainee: type):
    parts = (Trainee, Validating, Spreading, Resembling, Grading, Previewing, Redrawing, Showing, Keeping, Foreseeing, Renewing)
    known = set().union(*map(members, (*parts, Asking, Answering)))
    public = {name for name in vars(trainee) if not name.startswith("_")}
    assert public <= known
