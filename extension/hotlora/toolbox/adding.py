"""Several LoRAs as one, each at its weight."""

from collections.abc import Sequence
from dataclasses import replace

from ..engine.errors import UserError
from ..engine.low_rank import LowRank, choose_rank, put_together, take_apart
from ..sd.lora_families import TITLES
from .adapters import Adapter, Layer
from .resizing import Size


def add_up(adapters: Sequence[Adapter], weights: Sequence[float], size: Size | None = None) -> Adapter:
    """The sum of what LoRAs change: their factors side by side, so ranks add up and nothing is lost; or cut to a size.

    What only some have is taken as they have it. Metadata are the first one's.

    Raises:
        UserError: for LoRAs that have no sum: of different families, with DoRA, or of other kinds without a size.
    """
    check_sum(adapters, weights, size)
    names = dict.fromkeys(name for adapter in adapters for name in adapter.layers)
    layers = {}
    for name in names:
        parts = [(adapter.layers[name], weight) for adapter, weight in zip(adapters, weights, strict=True) if name in adapter.layers]
        layers[name] = _sum(name, parts, size)
    kept = {key: tensor for adapter in reversed(adapters) for key, tensor in adapter.kept.items()}
    settings = {**adapters[0].settings, "target_modules": _join_targets(adapters)}
    return replace(adapters[0], layers=layers, kind="lora", kept=kept, settings=settings)


def _join_targets(adapters: Sequence[Adapter]) -> list[str]:
    """What peft puts layers on; empty for what follows from the layers, where one says it as a pattern."""
    said = [adapter.settings.get("target_modules") for adapter in adapters]
    lists = [names for names in said if isinstance(names, list)]
    return sorted({name for names in lists for name in names}) if len(lists) == len(said) else []


def check_sum(adapters: Sequence[Adapter], weights: Sequence[float], size: Size | None) -> None:
    """Raises UserError as :func:`add_up` does."""
    first = adapters[0]
    if len(weights) != len(adapters):
        raise UserError(f"cannot merge {len(adapters)} LoRAs at {len(weights)} weights: each needs one. Give as many --weights as files.")
    for other in adapters[1:]:
        if other.family != first.family:
            raise UserError(
                f"cannot merge '{first.path}' and '{other.path}': one is for {_title(first)}, the other for {_title(other)}. "
                "Choose LoRAs of one family; if it was found out wrongly, say it with --family."
            )
        if first.is_text and not first.layers.keys() & other.layers.keys():
            raise UserError(
                f"cannot merge '{first.path}' and '{other.path}': they have no layer in common, so they are for different models. "
                "Choose LoRAs for one model."
            )
    for adapter in adapters:
        if adapter.is_dora:
            raise UserError(
                f"cannot merge '{adapter.path}': it is DoRA, whose change depends on the model's own weights, so it cannot be added to "
                "others. Put it into a checkpoint with hotlora tool bake."
            )
        if adapter.kind != "lora" and size is None:
            raise UserError(
                f"cannot merge '{adapter.path}' exactly: it is a {adapter.kind}, which has no factors to put side by side. Give a --rank."
            )
    if size is not None:
        size.check()


def _sum(name: str, parts: Sequence[tuple[Layer, float]], size: Size | None) -> Layer:
    inputs = {(layer.matrix().shape[0], layer.shape_inputs()[0]) if layer.kind != "lora" else _sizes(layer) for layer, _ in parts}
    if len(inputs) > 1:
        shown = " and ".join(f"{outputs}x{given}" for outputs, given in sorted(inputs))
        raise UserError(f"cannot merge these LoRAs: their layers {name} are for weights of {shown}. Choose LoRAs for one model.")
    kernel = max((layer.shape_inputs() for layer, _ in parts), key=len)  # one may say a 1x1 convolution as a linear layer
    changes = [(_as_low_rank(layer, size), weight) for layer, weight in parts]
    whole = put_together([(change._replace(down=change.down.reshape(change.rank, *kernel)), weight) for change, weight in changes])
    if size is not None:
        most = size.most(Layer.of(whole))
        found = take_apart(whole)
        whole = found.cut(choose_rank(found.values, most, size.criterion, size.target), kernel)
    return Layer.of(whole)


def _sizes(layer: Layer) -> tuple[int, int]:
    return layer.parts["lora_B"].shape[0], layer.parts["lora_A"].shape[1]


def _as_low_rank(layer: Layer, size: Size | None) -> LowRank:
    if layer.kind == "lora":
        return layer.low_rank
    most = size.most(layer) if size else layer.rank
    found = layer.take_apart(4 * most)  # more than is kept at the end, so that sums are cut and not their parts
    return found.cut(len(found.values), layer.shape_inputs())


def _title(adapter: Adapter) -> str:
    return TITLES.get(adapter.family, "language models")
