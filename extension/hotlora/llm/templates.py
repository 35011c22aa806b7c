"""Which chat template conversations are written with: the user's choice, the host's, the tokenizer's own, or one of these few.

Reads template files of Hugging Face (Jinja, JSON) and of text-generation-webui (YAML). Renders nothing; see rendering.py.
"""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..engine.errors import UserError
from .config import BUILT_IN_TEMPLATES

_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

# Generation prompts end where no tokenizer joins them to the answer: in a line's end, or before the answer's space.
_ALPACA = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}
{%- elif message.role == 'assistant' -%}{{ '### Response:\\n' + message.content + (eos_token or '') + '\\n\\n' }}
{%- else -%}{{ '### Instruction:\\n' + message.content + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '### Response:\\n' }}{%- endif -%}
"""

_VICUNA = """\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}
{%- elif message.role == 'assistant' -%}{{ 'ASSISTANT: ' + message.content + (eos_token or '') }}
{%- else -%}{{ 'USER: ' + message.content + '\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""

_BUILT_IN = dict(zip(BUILT_IN_TEMPLATES, (_CHATML, _ALPACA, _VICUNA, ""), strict=True))


@dataclass(frozen=True)
class ChatTemplate:
    """A template's Jinja text, empty where question and answer are joined as they are, and what people call it."""

    text: str
    name: str
    warning: str = ""


def choose_template(wanted: str, host_template: str | None, tokenizer: Any) -> ChatTemplate:
    """The template that the option names, or else the host's, or else the tokenizer's own, or else Alpaca's with a warning.

    Raises:
        UserError: for a name that is none of ours and no file, or a file without a template.
    """
    if wanted in _BUILT_IN:
        return ChatTemplate(_BUILT_IN[wanted], wanted)
    if wanted:
        return ChatTemplate(read_template(Path(wanted).expanduser()), Path(wanted).name)
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, dict):  # some models bring several, for tools and the like
        own = own.get("default") or next(iter(own.values()), None)
    if host_template and host_template != own:
        return ChatTemplate(host_template, "the program's own")
    if own:
        return ChatTemplate(own, "the model's own")
    warning = "The model has no chat template: conversations are written as in Alpaca. Set chat_template to choose another."
    return ChatTemplate(_ALPACA, "alpaca", warning)


def read_template(path: Path) -> str:
    """The Jinja text in a file: as it is, or under its key in JSON (`chat_template`) or YAML (`instruction_template`)."""
    if not path.is_file():
        near = difflib.get_close_matches(str(path), BUILT_IN_TEMPLATES, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else f" Set chat_template to one of {', '.join(BUILT_IN_TEMPLATES)}, or to a file."
        raise UserError(f"cannot use the chat template '{path}': it is neither the name of one nor a file.{hint}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = _parse(text, path.suffix.lower())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the chat template {path}: {' '.join(str(error).split())[:200]}") from error
    keys = ("chat_template", "instruction_template")
    found = text if values is None else next((values[key] for key in keys if isinstance(values.get(key), str)), "")
    if not found.strip():
        where = "the file is empty" if values is None else f"it has none under {' or '.join(keys)}"
        raise UserError(f"cannot use {path} as a chat template: {where}. Choose another file.")
    return found


def _parse(text: str, suffix: str) -> dict | None:
    """The file's mapping; None where the whole file is the template."""
    if suffix not in (".json", ".yaml", ".yml"):
        return None
    values = json.loads(text) if suffix == ".json" else yaml.safe_load(text)
    return values if isinstance(values, dict) else {}
