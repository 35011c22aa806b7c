"""A whole model with an adapter in it, for programs that load no adapters. Nothing is ever merged into a model that a program holds."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from ...engine.errors import UserError
from ...engine.files import replacing_folder
from ...llm.peft_reading import CONFIG, read_fingerprint, refuse_unsound, warn_other_base
from ..shared.causal_model import fingerprint_model
from .model_folder import check_model_folder, quantization_of
from .texts import load_net, load_tokenizer


@torch.no_grad()
def merge_adapter(adapter: Path, base: Path, output: Path, *, trust_remote_code: bool = False) -> str:
    """Write ``base`` with the adapter's changes as a model folder of its own, in the precision that the base is stored in. It takes every
    adapter that peft can merge.

    Merging is rounding: the weights are added up in fp32 and stored as before. So the base must be the unquantised one; what was
    trained on four bits and is merged into those would be gone (peft#1043).

    Returns:
        What people should know; mostly nothing.

    Raises:
        UserError: where the base is quantised, the two do not fit, or there is something at ``output``.
    """
    if output.exists():
        raise UserError(f"cannot write the merged model to '{output}': there is something already. Choose another folder.")
    _refuse_quantised(base)
    check_model_folder(base, trust_remote_code=trust_remote_code)
    adapter = adapter.parent if adapter.is_file() else adapter
    said = _read_config(adapter)
    try:
        refuse_unsound(adapter, said)
    except UserError as error:
        raise UserError(str(error).replace("cannot go on from", "cannot merge", 1)) from error
    notes: list[str] = []
    net = load_net(base, "auto", notes, trust_remote_code=trust_remote_code)
    stored = {name: parameter.dtype for name, parameter in net.named_parameters()}
    trained_on = str(said.get("base_model_name_or_path") or "")
    told = warn_other_base(trained_on, read_fingerprint(adapter), fingerprint_model(net), base.name)
    net = _merge(net, adapter, base)
    usual = next(iter(stored.values()))
    for name, parameter in net.named_parameters():
        parameter.data = parameter.data.to(stored.get(name, usual))
    net.config.dtype = usual
    with replacing_folder(output) as folder:
        net.save_pretrained(folder)
        load_tokenizer(base, trust_remote_code=trust_remote_code).save_pretrained(folder)
        for name in ("chat_template.jinja",):
            if (adapter / name).is_file():
                shutil.copy2(adapter / name, folder / name)
    return " ".join(said for said in (told, *notes) if said)


def _refuse_quantised(base: Path) -> None:
    try:
        config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # said by whoever checks the folder
    if isinstance(config, dict) and quantization_of(config):
        raise UserError(f"cannot merge into '{base}': it is quantised, which would swallow the changes. Give the original model.")


def _read_config(adapter: Path) -> dict[str, Any]:
    path = adapter / CONFIG
    if not path.is_file():
        raise UserError(f"cannot merge '{adapter}': it has no {CONFIG}, so it is no text LoRA. Give the folder of a peft adapter.")
    try:
        said = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"cannot read '{path}': {error}. Copy the adapter again.") from error
    return said if isinstance(said, dict) else {}


def _merge(net: Any, adapter: Path, base: Path) -> Any:
    """The model with the adapter in its weights."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings(record=True) as noticed:
            warnings.simplefilter("always")
            wrapped = PeftModel.from_pretrained(net.float(), str(adapter))
        lacking = next((str(one.message) for one in noticed if "missing adapter keys" in str(one.message)), "")
        if lacking:
            raise ValueError(lacking)
        if not hasattr(wrapped.base_model, "merge_and_unload"):
            kind = next(iter(wrapped.peft_config.values())).peft_type
            raise ValueError(f"a {getattr(kind, 'value', kind)} is no change of weights, and cannot be merged")
        return wrapped.merge_and_unload(safe_merge=True)
    except Exception as error:  # whatever peft raises for what it cannot read or merge
        reason = " ".join(str(error).split())[:200].rstrip(". ")
        raise UserError(
            f"cannot merge '{adapter}' into '{base}': it does not fit ({reason}). Give the model that it was trained on."
        ) from error
