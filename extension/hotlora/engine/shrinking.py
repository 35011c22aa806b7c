"""The smallest adapter that does as well: every layer at a rank of its own, chosen by what it does on examples that were kept back.

Each layer's change is cut by its singular values at several shares of its energy (the sum of their squares); of those cuts the smallest
is written whose loss gives away at most a hundredth of what the whole adapter has gained.
"""

import json
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace

import torch

from .control import Control
from .events import Event, Preparing, Saved, Warned
from .files import write_text
from .interfaces import Adapters, Target, Validating
from .low_rank import LowRank, Singular, choose_rank, take_apart
from .session import Session
from .writing import write_usable

Tensors = dict[str, dict[str, torch.Tensor]]

_ENERGIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)  # shares of a layer's squared Frobenius norm
_GIVEN_AWAY = 0.01  # of the whole adapter's gain, at most
_PLAIN = {"lora_A", "lora_B"}


@dataclass(frozen=True)
class Cut:
    """One size, and how it does.

    Attributes:
        ranks: by layer.
        numbers: in the layers' factors, all together.
    """

    energy: float
    ranks: Mapping[str, int]
    numbers: int
    loss: float


class Smaller:
    """Adapters with fewer ranks, as trainees write them: every layer's alpha stays, the rest of its scale is in its factors.

    Args:
        ranks: of those layers that are cut.
    """

    def __init__(self, adapters: Adapters, ranks: Mapping[str, int], found: Mapping[str, Singular]):
        self.kind, self.use_rslora, self._adapters = adapters.kind, adapters.use_rslora, adapters
        self.targets: dict[str, Target] = {
            name: replace(target, rank=ranks.get(name, target.rank)) for name, target in adapters.targets.items()
        }
        self._ranks, self._found = ranks, found

    def tensors(self) -> Tensors:
        """As :meth:`Adapters.tensors`."""
        whole = self._adapters.tensors()
        return {name: self._cut(name, parts) if name in self._ranks else parts for name, parts in whole.items()}

    def _cut(self, name: str, parts: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return _as_parts(self._found[name], self._ranks[name], parts, scale_of(self.targets[name], use_rslora=self.use_rslora))

    def starts(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """None: what began elsewhere is not cut."""
        return {}


def scale_of(target: Target, *, use_rslora: bool) -> float:
    """What a layer's product is multiplied by."""
    return target.alpha / (math.sqrt(target.rank) if use_rslora else target.rank)


def shrink(session: Session, control: Control, files: dict[str, str]) -> Generator[Event, None, None]:
    """Choose, write, and tell why; what was written is added to ``files``. Without kept-back examples, or where the adapter has gained
    nothing on them, it says so and writes nothing."""
    trainee = session.trainee
    batches = trainee.validation_batches() if isinstance(trainee, Validating) else []
    if not batches:
        yield Warned("No smaller LoRA was looked for: there are no kept-back examples to judge by. Set validation_split: 0.1.")
        return
    with session.weights.usable():
        found = _take_apart(session)
    if not found:
        yield Warned("No smaller LoRA was looked for: none of its layers is a plain LoRA's.")
        return
    judge = _Judge(session, control, found, len(_ENERGIES) + 2)
    without = yield from judge.measure(None, 0.0)
    whole = yield from judge.measure(None, 1.0)
    cuts = []
    for energy in _ENERGIES:
        ranks = {name: _choose(session, name, singular, energy) for name, singular in found.items()}
        loss = yield from judge.measure(ranks, 1.0)
        cuts.append(Cut(energy, ranks, _count(found, ranks), loss))
    if control.stopping:
        return
    full = _count(found, {name: session.adapters.targets[name].rank for name in found})
    chosen = _choose_cut(cuts, without, whole, full)
    write_text(session.run.ranks_path, json.dumps(_as_plain(cuts, without, whole, full), indent=2) + "\n")
    files["ranks"] = str(session.run.ranks_path)
    yield Warned(_explain(cuts, chosen, (without, whole, full)))
    if chosen:
        path = write_usable(session, session.run.small_path, lambda adapters: Smaller(adapters, chosen.ranks, found))
        files["small"] = str(path)
        yield Saved(session.step, "small", str(path))


class _Judge:
    """Losses on the kept-back examples, one after another."""

    def __init__(self, session: Session, control: Control, found: Mapping[str, Singular], times: int):
        self._session, self._control, self._found = session, control, found
        self._total, self._done = times, 0

    def measure(self, ranks: Mapping[str, int] | None, weight: float) -> Generator[Event, None, float]:
        """With layers cut to these ranks; whole where None. The model may go back to its host between batches."""
        session, total, count = self._session, 0.0, 0.0
        for batch in session.trainee.validation_batches():  # type: ignore[attr-defined]
            if self._control.stopping:
                break
            with session.weights.usable(weight), torch.no_grad():
                if ranks is not None:
                    session.adapters.load(self._pad(ranks))
                loss = session.trainee.validation_loss(batch)  # type: ignore[attr-defined]
            total, count = total + loss.total.item(), count + loss.count
        self._done += 1
        yield Preparing("choosing ranks", self._done, self._total)
        return total / count if count else math.nan

    def _pad(self, ranks: Mapping[str, int]) -> Tensors:
        """The cut layers in tensors of the shapes that are in training: ranks that are gone are zeros."""
        adapters = self._session.adapters
        tensors = adapters.tensors()
        for name, rank in ranks.items():
            scale = scale_of(adapters.targets[name], use_rslora=adapters.use_rslora)
            for part, cut in _as_parts(self._found[name], rank, tensors[name], scale).items():
                if part in _PLAIN:
                    padded = torch.zeros_like(tensors[name][part])
                    padded[tuple(slice(length) for length in cut.shape)] = cut
                    tensors[name][part] = padded
        return tensors


def _take_apart(session: Session) -> dict[str, Singular]:
    """Singular values of the layers that are trained as plain LoRAs."""
    adapters, tensors = session.adapters, session.adapters.tensors()
    trained = {name for name, target in adapters.targets.items() if not target.frozen}
    plain = [name for name in tensors if name in trained and tensors[name].keys() == _PLAIN and adapters.kind == "lora"]
    return {
        name: take_apart(
            LowRank(
                tensors[name]["lora_B"].flatten(1),
                tensors[name]["lora_A"],
                scale_of(adapters.targets[name], use_rslora=adapters.use_rslora),
            )
        )
        for name in plain
        if tensors[name]["lora_A"].dim() in (2, 4)
    }


def _as_parts(found: Singular, rank: int, parts: Mapping[str, torch.Tensor], scale: float) -> dict[str, torch.Tensor]:
    """A layer's tensors at that rank, for readers that multiply by ``scale``."""
    cut = found._replace(values=found.values / scale).cut(rank, tuple(parts["lora_A"].shape[1:]))
    return {**parts, "lora_A": cut.down, "lora_B": cut.up.view(*cut.up.shape, *[1] * (parts["lora_B"].dim() - 2))}


def _choose(session: Session, name: str, found: Singular, energy: float) -> int:
    return choose_rank(found.values, session.adapters.targets[name].rank, "sv_fro", math.sqrt(energy))


def _count(found: Mapping[str, Singular], ranks: Mapping[str, int]) -> int:
    return sum(rank * (found[name].left.shape[0] + found[name].right.shape[1]) for name, rank in ranks.items())


def _choose_cut(cuts: list[Cut], without: float, whole: float, full: int) -> Cut | None:
    """The smallest within the limit; None where the adapter has gained nothing, or nothing smaller is as good."""
    gain = without - whole
    if not gain > 0:
        return None
    good = [cut for cut in cuts if cut.loss <= whole + _GIVEN_AWAY * gain and cut.numbers < full]
    return min(good, key=lambda cut: cut.numbers) if good else None


def _as_plain(cuts: list[Cut], without: float, whole: float, full: int) -> dict:
    curve = [{"energy": cut.energy, "loss": cut.loss, "numbers": cut.numbers, "ranks": dict(cut.ranks)} for cut in cuts]
    return {"loss without": without, "loss of all": whole, "numbers of all": full, "curve": curve}


def _explain(cuts: list[Cut], chosen: Cut | None, seen: tuple[float, float, int]) -> str:
    without, whole, full = seen
    start = f"Kept-back loss: {without:.5f} without the LoRA, {whole:.5f} with all of it"
    if not without - whole > 0:
        return f"{start}: it has gained nothing there, so there is nothing that a smaller one could be judged by. None was written."
    curve = "; ".join(_tell(cut, full) for cut in cuts)
    if chosen is None:
        return f"{start}. By share of each layer's energy: {curve}. None of these keeps 99 % of the gain, so no smaller LoRA was written."
    reason = f"Written: {chosen.energy:.4g}, the smallest that keeps 99 % of the gain, beside the whole one."
    return f"{start}. By share of each layer's energy: {curve}. {reason}"


def _tell(cut: Cut, full: int) -> str:
    ranks = sorted(cut.ranks.values())
    return f"{cut.energy:.4g} {cut.loss:.5f} at ranks {ranks[0]} to {ranks[-1]}, {full / cut.numbers:.1f} times smaller"
