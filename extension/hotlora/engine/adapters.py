"""The adapters of a run: peft layers that are built once and swapped in and out of a borrowed module tree.

Owns the swap and nothing else: the maths of every adapter is peft's; ``lean`` and ``dora`` say where it is computed in another order.
Building goes through peft's public injection into a throw-away parent that holds just the target layers, so the borrowed tree is not
touched before :meth:`attached`.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .dora import AxisDoRA
from .interfaces import Target
from .lean import make_lean
from .linear import as_linear
from .lokr import ensure_scaled
from .pissa import ShiftedLora, find_main_directions

_NAME = "default"  # peft's name of the one adapter in each layer


class AdapterSet:
    """One peft layer per target.

    Args:
        targets: exported name -> layer, rank, alpha.
        kind: "lora", "loha" or "lokr".
        dora_axis: which norm DoRA keeps: "output" is peft's own; "input" and "rows" are what image programs apply (see ``dora``).
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        kind: str = "lora",
        *,
        use_rslora: bool = False,
        use_dora: bool = False,
        dora_axis: str = "output",
        dropout: float = 0.0,
        lokr_factor: int = -1,
        start: str = "default",
        seed: int = 0,
    ):
        self.kind, self.targets, self.use_rslora, self.use_dora = kind, dict(targets), use_rslora, use_dora
        self._options = {"dropout": dropout, "lokr_factor": lokr_factor, "peft_dora": use_dora and dora_axis == "output"}
        found = AsFound([target.layer for target in targets.values()])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            layers = self._build()
        found.restore()
        wrap, axis = use_dora and dora_axis != "output", 0 if dora_axis == "rows" else 1
        self.layers: dict[str, nn.Module] = {name: AxisDoRA(layers[name], _NAME, axis) if wrap else layers[name] for name in self.targets}
        self._own = list(self._find_own())
        self.trained = [(key, parameter) for key, parameter in self._own if not self.targets[key[0]].frozen]
        for (name, _), parameter in self._own:
            parameter.data = parameter.data.float()  # adapters train in fp32 whatever the base is
            parameter.requires_grad_(not self.targets[name].frozen)
        if start == "pissa":
            self.begin_at(find_main_directions(self.layers, _NAME, seed))
        self._scales = {name: self._peft_layer(name).scaling[_NAME] for name in self.layers}
        self._places: list[tuple[nn.Module, str, nn.Module, nn.Module]] | None = None

    def _build(self) -> dict[str, nn.Module]:
        """peft layers by exported name; one injection per rank and alpha, because peft's configs hold one of each."""
        groups: dict[tuple, list[str]] = {}
        for name, target in sorted(self.targets.items()):  # trees differ in their order, and each layer draws its start
            groups.setdefault((target.rank, target.alpha, target.parameters), []).append(name)
        layers = {}
        for (rank, alpha, parameters), names in groups.items():
            parent = nn.Module()
            keys = {f"target_{i}": name for i, name in enumerate(names)}
            for key, name in keys.items():
                parent.add_module(key, as_linear(self.targets[name].layer))
            if parameters:
                self._inject_parameters(parent, rank, alpha, [f"{key}.{parameter}" for key in keys for parameter in parameters])
            else:
                self._inject(parent, rank, alpha, keys)
            layers.update({name: getattr(parent, key) for key, name in keys.items()})
        return layers

    def _inject(self, parent: nn.Module, rank: int, alpha: float, names: Mapping[str, str]) -> None:
        """``names``: attribute of the parent -> exported name."""
        from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model

        dropout, keys = self._options["dropout"], list(names)
        if self.kind == "lora":
            config = LoraConfig(
                r=rank,
                lora_alpha=alpha,
                target_modules=keys,
                lora_dropout=dropout,
                use_rslora=self.use_rslora,
                use_dora=self._options["peft_dora"],
            )
        elif self.kind == "loha":
            config = LoHaConfig(r=rank, alpha=alpha, target_modules=keys, module_dropout=dropout, use_effective_conv2d=True)
        else:
            config = LoKrConfig(
                r=rank,
                alpha=alpha,
                target_modules=keys,
                module_dropout=dropout,
                use_effective_conv2d=True,
                decompose_both=False,
                decompose_factor=self._options["lokr_factor"],
            )
        inject_adapter_in_model(config, parent, _NAME)
        for key in keys:
            layer, shapes = getattr(parent, key), self.targets[names[key]].shapes
            if shapes and self.kind != "lora":
                _take_shapes(layer, shapes)
            if self.kind == "lokr":
                ensure_scaled(layer)
            elif self.kind == "lora":
                make_lean(layer, _NAME)

    def _inject_parameters(self, parent: nn.Module, rank: int, alpha: float, keys: list[str]) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=[], target_parameters=keys, use_rslora=self.use_rslora)
        inject_adapter_in_model(config, parent, _NAME)

    def _peft_layers(self, name: str) -> Iterator[Any]:
        """One; where several parameters of a layer have one each, all of them, which lie in each other."""
        layer = self._peft_layer(name)
        while hasattr(layer, "scaling"):
            yield layer
            layer = layer.base_layer

    def _peft_layer(self, name: str) -> Any:
        layer = self.layers[name]
        return getattr(layer, "lora", layer)

    def _find_own(self) -> Iterator[tuple[tuple[str, str], nn.Parameter]]:
        """((exported name, tensor name), parameter) of everything that is the adapters', in the same order on every host."""
        for name in sorted(self.layers):
            base = {id(p) for p in self.targets[name].layer.parameters()}
            for path, parameter in self.layers[name].named_parameters():
                if id(parameter) not in base:
                    yield (name, _tensor_name(path)), parameter

    def parameters(self) -> list[nn.Parameter]:
        """Everything that is trained, in a fixed order."""
        return [parameter for _, parameter in self.trained]

    def parameter_groups(self) -> list[dict]:
        """Optimizer groups: one per learning rate among the targets."""
        by_rate: dict[float, list[nn.Parameter]] = {}
        for (name, _), parameter in self.trained:
            by_rate.setdefault(self.targets[name].learning_rate, []).append(parameter)
        return [{"params": parameters, "lr": rate} for rate, parameters in by_rate.items()]

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Exported name -> peft's tensor name (``lora_A``, ``hada_w1_a``, ``dora_scale`` …) -> fp32 copy on the CPU.

        Shapes are peft's: of a linear layer ``lora_A`` [rank, in] and ``lora_B`` [out, rank], of a convolution ``lora_A``
        [rank, in, height, width] and ``lora_B`` [out, rank, 1, 1].
        """
        out: dict[str, dict[str, torch.Tensor]] = {name: {} for name in self.layers}
        for (name, tensor), parameter in self._own:
            out[name][tensor] = parameter.detach().to("cpu", copy=True)
        return out

    def starts(self) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Exported name -> (A0 [rank, in], B0 [out, rank]) on the CPU, where training began there: the update is then
        scale * (B A - B0 A0)."""
        return {name: (layer.down.cpu(), layer.up.cpu()) for name, layer in self.layers.items() if isinstance(layer, ShiftedLora)}

    @torch.no_grad()
    def begin_at(self, starts: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Let those layers begin at (A0 [rank, in], B0 [out, rank]), from where they are still no change."""
        for name, (down, up) in starts.items():
            lora, layer = self._peft_layer(name), self.layers[name]
            device = lora.lora_A[_NAME].weight.device
            if not isinstance(layer, ShiftedLora):
                self.layers[name] = layer = ShiftedLora(lora, _NAME)
            layer.down, layer.up = down.float().to(device), up.float().to(device)
            lora.lora_A[_NAME].weight.copy_(down)
            lora.lora_B[_NAME].weight.copy_(up)

    def load(self, tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
        """Overwrite every tensor, frozen ones too, with what :meth:`tensors` gave, or with as many numbers in another shape, as
        some files have them. Raises KeyError or RuntimeError where names or sizes differ."""
        with torch.no_grad():
            for (name, tensor), parameter in self._own:
                source = tensors[name][tensor]
                if source.numel() != parameter.numel():
                    raise RuntimeError(f"{name}.{tensor} is {tuple(source.shape)}, wanted {tuple(parameter.shape)}")
                parameter.copy_(source.reshape(parameter.shape))

    def to(self, device: torch.device) -> None:
        """Move the adapters' tensors, not the layers below them."""
        for _, parameter in self._own:
            parameter.data = parameter.data.to(device)
        for layer in self.layers.values():
            if isinstance(layer, ShiftedLora):
                layer.down, layer.up = layer.down.to(device), layer.up.to(device)

    @contextlib.contextmanager
    def attached(self, modules: Sequence[nn.Module]) -> Iterator[None]:
        """Swap every target layer for its adapter inside the given trees; afterwards the trees are exactly as found.

        Inside, nothing but the adapters requires gradients.
        """
        if self._places is None:
            self._places = self._find_places(modules)
        found = AsFound(modules)
        try:
            for parent, attribute, layer, adapter in self._places:
                if getattr(parent, attribute) is not layer:
                    raise RuntimeError(f"the model changed between turns: {attribute} is another object now")
                setattr(parent, attribute, adapter)
            for tree in modules:
                tree.requires_grad_(False)
            for parameter in self.parameters():
                parameter.requires_grad_(True)
            yield
        finally:
            for parent, attribute, layer, _ in self._places:
                setattr(parent, attribute, layer)
            found.restore()

    @contextlib.contextmanager
    def detached(self) -> Iterator[None]:
        """Within :meth:`attached`, the trees without the adapters."""
        places = self._places or []
        for parent, attribute, layer, _ in places:
            setattr(parent, attribute, layer)
        try:
            yield
        finally:
            for parent, attribute, _, adapter in places:
                setattr(parent, attribute, adapter)

    def _find_places(self, modules: Sequence[nn.Module]) -> list[tuple[nn.Module, str, nn.Module, nn.Module]]:
        by_id = {id(target.layer): name for name, target in self.targets.items()}
        places = [
            (parent, attribute, child, self.layers[by_id[id(child)]])
            for tree in modules
            for parent in tree.modules()
            for attribute, child in parent.named_children()
            if id(child) in by_id
        ]
        missing = set(self.targets) - {by_id[id(place[2])] for place in places}
        if missing:
            raise RuntimeError(f"targets that are in none of the given modules: {sorted(missing)[:3]}")
        return places

    def set_training(self, training: bool) -> None:
        """Switch the adapters' own dropout; the layers below keep their mode."""
        for name, layer in self.layers.items():
            base = self.targets[name].layer.training
            layer.train(training and not self.targets[name].frozen)
            self.targets[name].layer.train(base)

    @contextlib.contextmanager
    def at_weight(self, weight: float) -> Iterator[None]:
        """Strength as in ``<lora:name:weight>``, without dropout; for previews."""
        self._set_weight(weight)
        self.set_training(False)
        try:
            yield
        finally:
            self._set_weight(1.0)
            self.set_training(True)

    def _set_weight(self, weight: float) -> None:
        for name, layer in self.layers.items():
            if isinstance(layer, AxisDoRA):
                layer.weight = weight
            else:
                for inner in self._peft_layers(name):
                    inner.scaling[_NAME] = self._scales[name] * weight

    @torch.no_grad()
    def limit_norms(self, max_norm: float) -> int:
        """Scale down every layer whose weight change is longer than ``max_norm`` (Frobenius), as sd-scripts'
        ``scale_weight_norms`` does; returns how many were."""
        names = [name for name, target in self.targets.items() if not target.frozen]
        norms = torch.stack([self._norm_of_change(name) for name in names]).tolist()  # one wait for the device
        too_long = [(name, norm) for name, norm in zip(names, norms, strict=True) if norm > max_norm]
        for name, norm in too_long:
            self._shrink(name, max_norm / norm)
        return len(too_long)

    def _norm_of_change(self, name: str) -> torch.Tensor:
        """[]: of scale * B A by traces of rank x rank, |B A|^2 = tr(B^T B A A^T); of other kinds by the change itself."""
        layer = self._peft_layer(name)
        if self.kind != "lora" or self.targets[name].parameters:
            return layer.get_delta_weight(_NAME).norm()
        down, up = layer.lora_A[_NAME].weight.flatten(1), layer.lora_B[_NAME].weight.flatten(1)
        return abs(layer.scaling[_NAME]) * ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt()

    def _shrink(self, name: str, ratio: float) -> None:
        tensors = {tensor: p for (owner, tensor), p in self.trained if owner == name}
        if self.kind == "lora":
            tensors["lora_A"].mul_(ratio**0.5)
            tensors["lora_B"].mul_(ratio**0.5)
        else:
            first = next(t for t in ("hada_w1_a", "lokr_w1", "lokr_w1_a") if t in tensors)
            tensors[first].mul_(ratio)


class AsFound:
    """What a turn may change about modules without changing a weight: gradient flags and train/eval modes."""

    def __init__(self, modules: Iterable[nn.Module]):
        trees = list(modules)
        self._gradients = [(p, p.requires_grad) for tree in trees for p in tree.parameters()]
        self._modes = [(m, m.training) for tree in trees for m in tree.modules()]

    def restore(self) -> None:
        """Put back every flag and mode."""
        for parameter, wanted in self._gradients:
            parameter.requires_grad_(wanted)
        for module, training in self._modes:
            if module.training is not training:  # setting it takes longer than asking, and a turn may be a step long
                module.training = training


def _take_shapes(layer: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give a peft LoHa or LoKr layer the tensors that a file has, in place of those it made itself: LyCORIS cuts the same
    weight in several ways, and peft computes with whatever is there. They are zeros until something is loaded."""
    for tensor in layer.adapter_layer_names:
        kept = getattr(layer, tensor)
        if _NAME in kept:
            del kept[_NAME]
        if tensor in shapes:
            kept[_NAME] = nn.Parameter(torch.zeros(shapes[tensor], device=layer.get_base_layer().weight.device))


def _tensor_name(path: str) -> str:
    """``lora.lora_A.default.weight`` -> ``lora_A``; ``base_layer.lora_A.default.weight`` keeps what it lies in."""
    parts = [part for part in path.split(".") if part not in (_NAME, "weight", "lora")]
    depth = next(place for place, part in enumerate(parts) if part != "base_layer")
    return ".".join(parts[: depth + 1])
