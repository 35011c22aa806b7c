"""Which programs load an image LoRA, and what of it each would leave out: by its tensors' names and shapes alone.

Each program looks for layers under names of its own, and most drop the rest without a word. The rules here were read from their code:
AUTOMATIC1111 1.10's ``extensions-builtin/Lora``, Forge's and ComfyUI's ``lora.py`` (which share their origin), diffusers'
``lora_conversion_utils.py`` and peft. Must not import any of them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from .lora_files import EMBEDDINGS
from .spelling import Names

Shapes = Mapping[str, tuple[int, ...]]

_END = re.compile(  # what a layer's tensors are called, in all files that are known
    r"(?P<layer>.+?)(?P<tensor>\.(?:lora_(?:down|up|mid|A|B)(?:\.default\w*)?(?:\.weight)?|lora_magnitude_vector(?:\.default\w*)?(?:\.weight)?"
    r"|dora_scale|alpha|scale|hada_\w+|lokr_\w+|oft_\w+|diff|diff_b|w_norm|b_norm|on_input|[ab][12]\.weight|weight|bias|rank_\w+)"
    r"|[._](?:lora|lora_linear_layer)\.(?:down|up)(?:\.weight)?)"
)
_LORA = ({"lora_up.weight", "lora_down.weight"}, {"lora_A.weight", "lora_B.weight"})
_LOHA = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}
_OTHER_KINDS = ({"diff"}, {"w_norm", "b_norm"}, {"a1.weight", "a2.weight", "b1.weight", "b2.weight"}, {"oft_blocks"}, {"oft_diag"})
_TEXT_DOTTED = re.compile(r"text_encoder(?:_2)?\.text_model\.encoder\.layers\.\d+\.(?:self_attn|mlp)\.\w+")
_ATTENTION = re.compile(r"_(to_q|to_k|to_v|to_out_0|[qkv]_proj|out_proj)$")
_MOST_STRANGE_IN_FORGE = 12  # keys that it finds no place for, beyond which it takes the file for another model's
_NAMED = 2  # of dropped layers


class Layer(NamedTuple):
    """One layer of a file."""

    spelled: str
    exported: str | None  # its kohya name, where the family has such a layer
    tensors: Shapes  # ending -> shape
    alpha: float | None = None  # where it is known


class Verdict(NamedTuple):
    """What one program makes of a file."""

    program: str
    layers: int  # of the file
    dropped: Mapping[str, list[str]]  # reason -> layers
    fails: str = ""  # why it does not load it at all

    @property
    def is_whole(self) -> bool:
        return not (self.fails or self.dropped)

    def __str__(self) -> str:
        """A line for people."""
        if self.fails:
            return f"{self.program}: does not load it: {self.fails}."
        if not self.dropped:
            return f"{self.program}: loads all {self.layers} layers."
        lost = {name for names in self.dropped.values() for name in names}
        reasons = "; ".join(_tell(reason, names) for reason, names in self.dropped.items())
        loaded = max(0, self.layers - len(lost))
        return f"{self.program}: loads {loaded} of {self.layers} layers. Dropped: {reasons}."


def _tell(reason: str, names: list[str]) -> str:
    more = " …" if len(names) > _NAMED else ""
    return f"{len(names)} ({', '.join(names[:_NAMED])}{more}), because {reason}"


def judge_image_lora(
    shapes: Shapes,
    family: str,
    *,
    alphas: Mapping[str, float] | None = None,
    names: Names | None = None,
    in_peft_folder: bool = False,
) -> list[Verdict]:
    """A verdict for each program.

    Args:
        shapes: of the file's tensors, by key.
        family: "sd1", "sd2" or "sdxl".
        alphas: values of those tensors that are alphas, by key.
        names: of the model's layers; the published model's when None.
        in_peft_folder: whether an ``adapter_config.json`` lies beside it.
    """
    names = names or Names(family)
    layers = list(_group(shapes, alphas or {}, names))
    embeddings = sorted({key.split(".")[1] for key in shapes if key.startswith(EMBEDDINGS)})
    return [
        _judge("AUTOMATIC1111", layers, embeddings, lambda layer: _drop_in_a1111(layer, family), _fail_in_a1111),
        _judge("Forge", layers, embeddings, lambda layer: _drop_in_comfy(layer, names), _fail_in_forge),
        _judge("ComfyUI", layers, embeddings, lambda layer: _drop_in_comfy(layer, names, generic_text=True)),
        _judge("diffusers", layers, embeddings, lambda layer: _drop_in_diffusers(layer, names), _fail_in_diffusers),
        _judge_peft(layers, names, in_peft_folder=in_peft_folder),
    ]


def tell_loading(tensors: Mapping[str, torch.Tensor], family: str, paths: Sequence[str]) -> str:
    """One line about a file that was trained here: which programs load it whole, and what the others do.

    Args:
        tensors: of the file, by key.
        paths: of the layers of the model's U-Net.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    alphas = {key: float(tensor) for key, tensor in tensors.items() if key.endswith(".alpha")}
    verdicts = judge_image_lora(shapes, family, alphas=alphas, names=Names(family, paths))
    image_programs = [verdict for verdict in verdicts if verdict.program != "peft"]
    whole = [verdict.program for verdict in image_programs if verdict.is_whole]
    others = [str(verdict) for verdict in image_programs if not verdict.is_whole]
    return " ".join([*([f"Loads whole in {', '.join(whole)}."] if whole else []), *others])


def _group(shapes: Shapes, alphas: Mapping[str, float], names: Names) -> Iterable[Layer]:
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        if not key.startswith(EMBEDDINGS):
            end = _END.fullmatch(key)
            layer, tensor = (end["layer"], end["tensor"].lstrip("._")) if end else (key, "")
            found.setdefault(layer.removesuffix("_lora"), {})[tensor] = shape
    for spelled, tensors in found.items():
        yield Layer(spelled, names.resolve(spelled), tensors, alphas.get(f"{spelled}.alpha"))


class _Sorted(NamedTuple):
    """A file's layers by whether a program takes them."""

    kept: list[Layer]
    lost: list[Layer]
    dropped: dict[str, list[str]]  # reason -> names
    embeddings: list[str]


def _judge(
    program: str,
    layers: list[Layer],
    embeddings: list[str],
    drop: Callable[[Layer], str],
    fail: Callable[[_Sorted], str] = lambda found: "",
) -> Verdict:
    found = _Sorted([], [], {}, embeddings)
    for layer in layers:
        reason = drop(layer)
        if reason:
            found.dropped.setdefault(reason, []).append(layer.spelled)
        (found.lost if reason else found.kept).append(layer)
    fails = fail(found)
    if not fails and found.lost and not found.kept:
        fails = f"none of its layers has a name that it knows, and it says nothing: {next(iter(found.dropped))}"
    if embeddings and program != "AUTOMATIC1111":
        found.dropped.setdefault("it reads no embeddings out of a LoRA", []).extend(embeddings)
    return Verdict(program, len(layers), found.dropped, fails)


# -- AUTOMATIC1111 -----------------------------------------------------------------------------------------------------


def _drop_in_a1111(layer: Layer, family: str) -> str:
    name = layer.spelled
    if "." in name:
        return "it takes a layer's name to end at the first dot; convert it to kohya's form"
    if layer.exported is None:
        return "the model has no such layer"
    if not name.startswith(("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")):
        return "it knows names that begin with lora_unet_ or lora_te; convert it to kohya's form"
    if family == "sdxl" and ("up_blocks_0_upsamplers" in name or "add_embedding" in name):
        return "it knows these layers of SDXL by CompVis' names only; convert it to kohya's form"
    if family == "sdxl" and name.startswith("lora_te_") or family == "sd2" and name.startswith("lora_te1_"):
        return "it knows the text encoder of this family by another number; convert it to kohya's form"
    return ""


def _fail_in_a1111(found: _Sorted) -> str:
    for layer in found.kept:
        if not _has_known_kind(layer.tensors):
            return f"of {layer.spelled} it finds only {', '.join(sorted(layer.tensors))}, which ends with an error"
        magnitude = layer.tensors.get("dora_scale")
        if magnitude and magnitude[0] != 1:
            return "its DoRA magnitudes are per output, and AUTOMATIC1111 up to 1.10 applies them per input: pictures would be wrong"
    return ""


def _has_known_kind(tensors: Shapes) -> bool:
    lokr = all(f"lokr_{part}" in tensors or {f"lokr_{part}_a", f"lokr_{part}_b"} <= tensors.keys() for part in ("w1", "w2"))
    return lokr or any(kind <= tensors.keys() for kind in (*_LORA, _LOHA, *_OTHER_KINDS, {"weight"}))


# -- Forge and ComfyUI -------------------------------------------------------------------------------------------------


def _drop_in_comfy(layer: Layer, names: Names, *, generic_text: bool = False) -> str:
    name = layer.spelled
    if layer.exported is None:
        return "the model has no such layer"
    if not _is_comfy_name(name, layer.exported, names, generic_text=generic_text):
        if ".to_" in name and ".processor." not in name and name.startswith(("unet.", "down_blocks", "up_blocks", "mid_block")):
            return "it looks for attention layers under diffusers' older names, with .processor. in them; convert it to kohya's form"
        return "it knows no such name; convert it to kohya's form"
    if "lora_magnitude_vector" in " ".join(layer.tensors):
        return "it reads DoRA's magnitudes under LyCORIS' name only; convert it to kohya's form"
    if any(tensor.startswith("oft_") or tensor == "on_input" for tensor in layer.tensors):
        return "it does not read this kind"
    return ""


def _is_comfy_name(name: str, exported: str, names: Names, *, generic_text: bool) -> bool:
    path = names.paths.get(exported, "")
    if "." not in name:
        starts = name.startswith(("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_"))
        return starts or name in (f"lycoris_{path.replace('.', '_')}", path)
    if name.startswith("diffusion_model."):
        return any(f".{side}" in name for side in ("input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out."))
    if name.startswith("text_encoders."):
        return generic_text
    if name.startswith("text_encoder"):
        return _TEXT_DOTTED.fullmatch(name) is not None
    old = path.replace(".to_", ".processor.to_")
    return name.removeprefix("unet.") == (old.removesuffix(".0") if old.endswith(".to_out.0") else old)


def _fail_in_forge(found: _Sorted) -> str:
    strange = sum(len(layer.tensors) for layer in found.lost)
    if strange > _MOST_STRANGE_IN_FORGE:
        return f"it finds no place for {strange} of its tensors and takes it for another model's: {next(iter(found.dropped))}"
    if any("lokr_t2" in layer.tensors for layer in (*found.kept, *found.lost)):
        return "LoKr of convolutions in Tucker's form ends there with an error"
    return ""


# -- diffusers and peft ------------------------------------------------------------------------------------------------


def _drop_in_diffusers(layer: Layer, names: Names) -> str:
    name = layer.spelled
    if layer.exported is None:
        return "the model has no such layer"
    if name.startswith(("lora_unet_", "lora_te", "unet.", "text_encoder.", "text_encoder_2.")):
        return ""
    return "it knows kohya's names, and its own that begin with unet. or text_encoder"


def _fail_in_diffusers(found: _Sorted) -> str:
    for layer in found.kept:
        kohya, tensors = "." not in layer.spelled, layer.tensors.keys()
        known = {"lora_up.weight", "lora_down.weight", "alpha", "dora_scale"} if kohya else None
        strange = sorted(tensors - known) if known else sorted(tensor for tensor in tensors if "lora" not in tensor and tensor != "alpha")
        if strange:
            return f"it reads LoRA only, and {layer.spelled} has {strange[0] or 'a tensor of its own'}"
        if "dora_scale" in tensors:
            return "it leaves DoRA's magnitudes out, so that pictures would be wrong"
    if _has_odd_alphas([*found.kept, *found.lost]):
        return "it gives attention layers the alpha that most layers have, and here some have another; convert it to diffusers' form"
    if found.embeddings and any("." not in layer.spelled for layer in (*found.kept, *found.lost)):
        return "it ends with an error at the embeddings that the file holds"
    return ""


def _has_odd_alphas(layers: list[Layer]) -> bool:
    """Whether an attention layer has another alpha than most of its part of the pipeline."""
    parts: dict[str, list[Layer]] = {}
    for layer in layers:
        if layer.alpha is not None and layer.exported is not None:
            parts.setdefault(layer.exported[:8], []).append(layer)  # lora_une, lora_te_, lora_te1, lora_te2
    for found in parts.values():
        usual = Counter(layer.alpha for layer in found).most_common(1)[0][0]
        if any(layer.alpha != usual and _ATTENTION.search(layer.exported or "") for layer in found):
            return True
    return False


def _judge_peft(layers: list[Layer], names: Names, *, in_peft_folder: bool) -> Verdict:
    if not in_peft_folder:
        return Verdict("peft", len(layers), {}, "it reads folders with an adapter_config.json; convert it to peft's form")
    dropped: dict[str, list[str]] = {}
    for layer in layers:
        path = layer.spelled.removeprefix("base_model.model.")
        if layer.exported is None:
            dropped.setdefault("the model has no such layer", []).append(layer.spelled)
        elif path == layer.spelled or (path != names.paths.get(layer.exported) and "encoder.layers." not in path):
            dropped.setdefault("its names are base_model.model. and the layer's path in diffusers' class", []).append(layer.spelled)
    return Verdict("peft", len(layers), dropped)
