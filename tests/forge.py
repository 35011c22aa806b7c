"""A stand-in for Forge, with what hurts in it: weights that inference mode has made, blocks that add to their residual in place, linear
layers that are none of torch's class, and LoRAs that are merged by loading a clone. The layers around that are the original classes'.
"""

import importlib.machinery
import sys
from types import ModuleType, SimpleNamespace

import original_model
import torch
import torch.nn.functional as F
import webui as stand_in
from ldm.modules.attention import BasicTransformerBlock
from torch import nn


class OddLinear(nn.Module):
    """A linear layer whose class peft does not know."""

    def __init__(self, plain):
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


class GreedyBlock(BasicTransformerBlock):
    """Writes over its own residual."""

    def forward(self, x, context=None):
        x += self.attn1(self.norm1(x))
        x += self.attn2(self.norm2(x), context=context)
        kept = x
        x = self.ff(self.norm3(x))
        x += kept
        return x


def make_odd(tree):
    """The tree with such layers and blocks in place of plain ones, its weights as inference mode makes them."""
    for module in list(tree.modules()):
        if type(module) is BasicTransformerBlock:
            module.__class__ = GreedyBlock
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, OddLinear(child))
    return age(tree)


def age(tree):
    """Every parameter and buffer anew, in inference mode."""
    with torch.inference_mode():
        for module in tree.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = buffer.clone()
    return tree


class Patcher:
    """Forge's ModelPatcher: clones with patches share the model, into which they are merged when they are loaded."""

    def __init__(self, model, patches=()):
        self.model, self.patches, self.load_device = model, list(patches), torch.device("cpu")

    def clone(self, *patches):
        return Patcher(self.model, [*self.patches, *patches])


class Memory(ModuleType):
    """Forge's ``backend.memory_management``."""

    def __init__(self):
        super().__init__("backend.memory_management")
        self.current_loaded_models, self.backups = [], {}

    def get_torch_device(self):
        return torch.device("cpu")

    @torch.inference_mode()
    def load_models_gpu(self, patchers, memory_required=0):
        for patcher in patchers:
            if any(entry.model is patcher for entry in self.current_loaded_models):
                continue
            self.current_loaded_models = [entry for entry in self.current_loaded_models if entry.model.model is not patcher.model]
            self.current_loaded_models.append(SimpleNamespace(model=patcher, device=patcher.load_device))
            for module, name, parameter in self.backups.pop(id(patcher.model), []):
                module._parameters[name] = parameter
            for path, change in patcher.patches:
                owner, _, name = path.rpartition(".")
                module = patcher.model.get_submodule(owner)
                self.backups.setdefault(id(patcher.model), []).append((module, name, module._parameters[name]))
                module._parameters[name] = nn.Parameter(module._parameters[name] + change, requires_grad=False)


class Unet(original_model.UNetModel):
    """The original one takes no other options than its own."""

    def forward(self, x, timesteps, context=None, y=None, transformer_options=None):
        return super().forward(x, timesteps, context=context, y=y)


class Held(SimpleNamespace):
    """Forge's ForgeObjects."""

    def shallow_copy(self):
        return Held(**vars(self))


class StableDiffusion:
    """Forge's engine of that name."""

    is_sd1, is_sdxl, is_inpaint = True, False, False

    def __init__(self, parts, path):
        loaded = original_model.Loaded(parts, path)
        net = make_odd(loaded.model.diffusion_model)
        net.__class__, net.num_classes = Unet, None
        self.model_config = SimpleNamespace(ztsnr=False)
        self.sd_checkpoint_info, self.current_lora_hash = loaded.sd_checkpoint_info, "[]"
        kept = nn.Module()
        kept.diffusion_model, kept.predictor = net, nn.Module()
        kept.predictor.prediction_type = "epsilon"
        kept.predictor.register_buffer("alphas_cumprod", loaded.alphas_cumprod_original)
        kept.storage_dtype = kept.computation_dtype = torch.float32
        encoder = nn.Module()
        encoder.clip_l = nn.Module()
        encoder.clip_l.transformer = make_odd(loaded.cond_stage_model.wrapped.transformer)
        first_stage = age(loaded.first_stage_model)
        first_stage.scaling_factor = 0.18215
        words = loaded.cond_stage_model
        self.text_processing_engine = SimpleNamespace(
            text_encoder=encoder.clip_l,
            tokenizer=words.tokenizer,
            tokenize=words.tokenize,
            embeddings=SimpleNamespace(fixes=["the last picture's"]),
            id_start=words.id_start,
            id_end=words.id_end,
            id_pad=words.id_pad,
        )
        self.forge_objects_original = Held(
            unet=Patcher(age(kept)),
            clip=SimpleNamespace(patcher=Patcher(encoder), cond_stage_model=encoder),
            vae=SimpleNamespace(first_stage_model=first_stage, patcher=Patcher(first_stage), device=torch.device("cpu")),
        )
        self.forge_objects = self.forge_objects_original.shallow_copy()
        self.forge_objects_after_applying_lora = self.forge_objects_original.shallow_copy()

    def trees(self):
        held = self.forge_objects_original
        return [held.unet.model, held.clip.cond_stage_model, held.vae.first_stage_model]

    def digest(self):
        """All weights, copied."""
        return {f"{i} {name}": value.clone() for i, tree in enumerate(self.trees()) for name, value in tree.state_dict().items()}


def make_forge(monkeypatch, tmp_path, make_model):
    """A Forge that has loaded nothing yet; its chosen checkpoint is what ``make_model()`` makes.

    Returns:
        the WebUI's stand-in, with ``info`` of the checkpoint, ``memory``, and ``loads``: how often Forge has loaded.
    """
    web = stand_in.make_webui(monkeypatch, tmp_path)
    web.memory, web.loads, web.make_model, web.networks.networks_in_memory = Memory(), 0, make_model, {}
    read = web.networks.read = []
    web.networks.load_lora_state_dict = SimpleNamespace(cache_clear=lambda: read.append("cleared"))
    web.info = SimpleNamespace(filename=str(tmp_path / "one.safetensors"), name="one.safetensors", ids=["one.safetensors"], sha256=None)
    data = SimpleNamespace(sd_model=SimpleNamespace(cond_stage_model=None), forge_hash="")
    data.forge_loading_parameters = {"checkpoint_info": web.info}
    web.sd_models.model_data = data
    web.processing.need_global_unload = False

    def reload():
        if data.forge_hash != str(data.forge_loading_parameters):
            data.sd_model = None
            web.loads += 1
            data.sd_model = web.make_model()
            data.forge_hash = str(data.forge_loading_parameters)
        return data.sd_model

    web.sd_models.forge_model_reload = web.load = reload
    backend = ModuleType("backend")
    backend.memory_management = web.memory
    known = {"backend": backend, "backend.memory_management": web.memory, "modules_forge": ModuleType("modules_forge")}
    for name, module in known.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    return web
