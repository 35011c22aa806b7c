"""A stand-in for those of text-generation-webui's ``modules`` that the host looks at, with a tiny model in them. What the program does
with them is proved in the real one."""

import sys
import threading
from types import ModuleType, SimpleNamespace

import torch
from small_llama import make_llama
from small_text import make_tokenizer


class Unavailable(Exception):
    """What the program's API answers 503 with."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message


class Program:
    """The program: its model, its folders, and how it answers."""

    def __init__(self, folder):
        self.folder = folder
        self.shared = ModuleType("modules.shared")
        self.models = ModuleType("modules.models")
        self.models.last_generation_time = 0.0
        (folder / "models" / "small").mkdir(parents=True)
        (folder / "loras").mkdir()
        self.shared.args = SimpleNamespace(
            loader="Transformers",
            model_dir=str(folder / "models"),
            lora_dir=str(folder / "loras"),
            listen=False,
            share=False,
            multi_user=False,
        )
        self.shared.user_data_dir = folder
        self.shared.settings = {"instruction_template_str": ""}
        self.shared.persistent_interface_state = {}
        self.shared.generation_lock = threading.Lock()
        self.shared.model_dirty_from_training = False
        self.errors = ModuleType("modules.api.errors")
        self.errors.ServiceUnavailableError = Unavailable
        self.lora = ModuleType("modules.LoRA")
        self.lora.add_lora_transformers = self.apply_loras
        self.load("small")

    def apply_loras(self, names):
        """As the program does it: in no queue."""
        from peft import PeftModel

        if self.shared.lora_names:
            self.shared.model = self.shared.model.unload()
        if names:
            self.shared.model = PeftModel.from_pretrained(
                self.shared.model, f"{self.shared.args.lora_dir}/{names[0]}", adapter_name=names[0]
            )
        self.shared.lora_names = names

    def load(self, name, seed=0):
        self.shared.tokenizer = make_tokenizer()
        self.shared.model = make_llama(seed, vocabulary=len(self.shared.tokenizer))
        self.shared.model_name, self.shared.lora_names = name, []

    def unload(self):
        self.shared.model = self.shared.tokenizer = None
        self.shared.model_name, self.shared.lora_names = "None", []

    def answer(self, count=8):
        """As the program generates: under its lock, whose global it reads anew each time."""
        self.shared.generation_lock.acquire()
        try:
            with torch.no_grad():
                ids = torch.tensor([[5, 6, 7, 8]])
                return self.shared.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False).tolist()
        finally:
            self.shared.generation_lock.release()

    def logits(self):
        with torch.no_grad():
            return self.shared.model(input_ids=torch.arange(3, 23)[None]).logits

    def traces(self):
        """All that a user, or the program, could find changed."""
        net, tokenizer = self.shared.model, self.shared.tokenizer
        return {
            "class": type(net),
            "modules": [(name, id(module), module.training) for name, module in net.named_modules()],
            "parameters": [(name, id(p), p.requires_grad, p.dtype) for name, p in net.named_parameters()],
            "attributes": sorted(set(net.__dict__)),
            "hooks": [name for name, m in net.named_modules() if m._forward_hooks or m._forward_pre_hooks],
            "config": net.config.to_dict(),
            "tokenizer": (tokenizer.chat_template, tokenizer.padding_side, tokenizer.pad_token_id, tokenizer.eos_token_id),
        }


def install(monkeypatch, folder):
    """Put the program's modules where imports find them."""
    program = Program(folder)
    package = ModuleType("modules")
    package.shared, package.models, package.LoRA = program.shared, program.models, program.lora
    for name, module in {
        "modules": package,
        "modules.LoRA": program.lora,
        "modules.api": ModuleType("modules.api"),
        "modules.api.errors": program.errors,
        "modules.shared": program.shared,
        "modules.models": program.models,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    return program
