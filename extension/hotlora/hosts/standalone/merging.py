"""A whole model with an adapter in it, for programs that load no adapters. Nothing is ever merged into a model that a program holds."""

import json
import shutil
from pathlib import Path

import torch

from ...engine.errors import UserError
from ...engine.files import replacing_folder
from ...llm.peft_folder import read_peft_folder, warn_other_base
from ..shared.causal_model import fingerprint_model
from .texts import check_model_folder, load_tokenizer


@torch.no_grad()
def merge_adapter(adapter: Path, base: Path, output: Path) -> str:
    """Write ``base`` with the adapter's changes as a model folder of its own, in the precision that the base is stored in.

    Merging is rounding: the weights are added up in fp32 and stored as before. So the base must be the unquantised one; what was
    trained on four bits and is merged into those would be gone (peft#1043).

    Returns:
        What people should know; mostly nothing.

    Raises:
        UserError: where the base is quantised, the two do not fit, or there is something at ``output``.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    check_model_folder(base)
    if "quantization_config" in json.loads((base / "config.json").read_text(encoding="utf-8")):
        raise UserError(f"cannot merge into '{base}': it is quantised, which would swallow the changes. Give the original model.")
    if output.exists():
        raise UserError(f"cannot write the merged model to '{output}': there is something already. Choose another folder.")
    file = read_peft_folder(adapter)
    net = AutoModelForCausalLM.from_pretrained(base, dtype="auto", local_files_only=True)
    stored = {name: parameter.dtype for name, parameter in net.named_parameters()}
    warning = warn_other_base(file, fingerprint_model(net), base.name)
    try:
        net = PeftModel.from_pretrained(net.float(), str(adapter)).merge_and_unload()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot merge '{adapter}' into '{base}': it does not fit ({' '.join(str(error).split())[:200]}).") from error
    for name, parameter in net.named_parameters():
        parameter.data = parameter.data.to(stored[name])
    net.config.dtype = next(iter(stored.values()))
    with replacing_folder(output) as folder:
        net.save_pretrained(folder)
        load_tokenizer(base).save_pretrained(folder)
        for name in ("chat_template.jinja",):
            if (adapter / name).is_file():
                shutil.copy2(adapter / name, folder / name)
    return warning
