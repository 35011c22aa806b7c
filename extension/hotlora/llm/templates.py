"""Which chat template conversations are written with: the user's choice, the host's, the tokenizer's own, or one of these few.

Reads template files of Hugging Face (Jinja, JSON) and of text-generation-webui (YAML). Renders nothing; see rendering.py.
"""

import datetime
import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
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


_DATE_NOW = re.compile(r"strftime_now\(\s*(?:format\s*=\s*)?(['\"])(.*?)\1\s*\)")
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")
# What is handed to every template, by transformers or by us.
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "strftime_now", "raise_exception", "namespace", "dict", "range"}
_GIVEN |= {"bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token", "additional_special_tokens"}


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
        hint = (
            f" Did you mean '{near[0]}'? Correct chat_template."
            if near
            else f" Set chat_template to one of {', '.join(BUILT_IN_TEMPLATES)}, or to a file."
        )
        raise UserError(f"cannot use the chat template '{path}': it is neither the name of one nor a file.{hint}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = _parse(text, path.suffix.lower())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"cannot read the chat template {path}: {' '.join(str(error).split())[:200].rstrip('.')}. Mend the file."
        ) from error
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


def freeze_date(text: str, date: str) -> str:
    """The template with that day (ISO) wherever it asks for today's: else a run that is resumed tomorrow would learn other texts."""
    day = datetime.datetime.fromisoformat(date)
    return _DATE_NOW.sub(lambda found: json.dumps(day.strftime(found.group(2))), text)


def asks_for_date(text: str) -> bool:
    """Whether the template writes today's date."""
    return bool(_DATE_NOW.search(text))


def list_arguments(text: str) -> set[str] | None:
    """What the template can be told beside the messages, such as `enable_thinking`; None where that cannot be found out."""
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(_GENERATION.sub("", text))
    except jinja2.TemplateError:
        return None
    return jinja2.meta.find_undeclared_variables(tree) - _GIVEN


def check_arguments(arguments: dict[str, Any], template: ChatTemplate) -> None:
    """Raise UserError for an argument that the template knows nothing of: it would be asked for and not applied."""
    known = list_arguments(template.text)
    unknown = [name for name in arguments if known is not None and name not in known]
    if unknown:
        knows = f"it knows {', '.join(sorted(known))}" if known else "it takes none"
        raise UserError(
            f"cannot set {unknown[0]} in template_args: the chat template '{template.name}' does not know it ({knows}). Mend template_args."
        )
