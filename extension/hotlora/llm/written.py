"""Texts that are written in some chat template already, taken apart into the turns they were made of.

Trained as they are, such texts would teach a model to say the user's part too, and be wrapped in its own template a second time.
Only texts that are in one form from their first letter to their last are taken apart. Pure.
"""

import re
from dataclasses import dataclass

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "instruction": "user",
    "[inst]": "user",
    "assistant": "assistant",
    "model": "assistant",
    "gpt": "assistant",
    "chatbot": "assistant",
    "response": "assistant",
    "[/inst]": "assistant",
    "tool": "tool",
    "observation": "tool",
    "ipython": "tool",
}

# How answers end in programs and models of all kinds. Whoever writes a template writes its own.
ENDS: tuple[str, ...] = ("</s>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>", "<end_of_turn>", "<|end|>", "<|eot|>")
ENDS += ("<|return|>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "<eos>", "<EOS>", "[EOS]", "<turn|>", "<|end_of_sentence|>")
ENDS += ("<|EOT|>", "<|end_of_turn|>", "<eoh>", "<eom>")
_BEGINS = ("<s>", "<|begin_of_text|>", "<bos>", "<｜begin▁of▁sentence｜>", "<|startoftext|>", "[gMASK]<sop>", "<|endoftext|>")


@dataclass(frozen=True)
class _Form:
    """``turn``: what opens a turn, with its speaker as a group. ``preamble``: whether something may stand before the first one."""

    name: str
    turn: re.Pattern[str]
    preamble: bool = False


_FORMS = (
    _Form("ChatML", re.compile(r"<\|im_start\|>[ \t]*(system|user|assistant|tool|developer)\s*\n")),
    _Form("Llama 3", re.compile(r"<\|start_header_id\|>\s*(\w+)\s*<\|end_header_id\|>\s*")),
    _Form("Llama 4", re.compile(r"<\|header_start\|>\s*(\w+)\s*<\|header_end\|>\s*")),
    _Form("Gemma", re.compile(r"<start_of_turn>\s*(user|model|system)\s*\n")),
    _Form("Gemma", re.compile(r"<\|turn>\s*(user|model|system)\s*\n")),
    _Form("DeepSeek", re.compile(r"<｜(User|Assistant)｜>"), preamble=True),
    _Form("Zephyr", re.compile(r"<\|(system|user|assistant|observation|prompter)\|>\n?")),
    _Form("Cohere", re.compile(r"<\|START_OF_TURN_TOKEN\|><\|(SYSTEM|USER|CHATBOT)_TOKEN\|>")),
    _Form("OpenChat", re.compile(r"(?:GPT4 Correct )(User|Assistant): ?")),
    _Form("Llama 2", re.compile(r"(\[INST\]|\[/INST\])")),
    _Form("Alpaca", re.compile(r"(?:^|(?<=\n))#{2,3} ?(Instruction|Response):\s*", re.IGNORECASE), preamble=True),
    _Form("Guanaco", re.compile(r"### ?(Human|Assistant|System|User):\s*"), preamble=True),
    _Form("Anthropic HH", re.compile(r"(?:^\s*|\n\n|(?<=\n))(Human|Assistant):[ \n]?")),
    _Form("Vicuna", re.compile(r"(?:^|(?<=[\s>]))(USER|ASSISTANT|SYSTEM):[ \n]"), preamble=True),
)
_SYSTEM_INSIDE = re.compile(r"\s*<<SYS>>\s*(.*?)\s*<</SYS>>\s*", re.DOTALL)
_INPUT_INSIDE = re.compile(r"\n#{2,3} ?Input:\s*", re.IGNORECASE)


def take_apart(text: str) -> tuple[list[dict[str, str]], str] | None:
    """(turns with role and content, the form's name); None where the text is in no such form. The last turn may be an empty one of the
    assistant's: a prompt that asks for its answer."""
    for form in _FORMS:
        turns = _split(text, form)
        if turns:
            return turns, form.name
    return None


def find_marks(text: str) -> str:
    """What opens a turn of some form in a text; empty where nothing does. For texts that are in no form as a whole."""
    tagged = (form for form in _FORMS if form.name not in ("Vicuna", "Anthropic HH", "Alpaca", "Guanaco"))
    found = next((match for form in tagged if (match := form.turn.search(text))), None)
    return found.group(0).strip() if found else ""


def strip_ends(text: str) -> tuple[str, str]:
    """(the text without what ends an answer, that ending or nothing)."""
    found, shorter = "", text.rstrip()
    while end := next((end for end in ENDS if shorter.endswith(end)), ""):
        found, shorter = end, shorter[: -len(end)].rstrip()
    return (shorter, found) if found else (text, "")


def _split(text: str, form: _Form) -> list[dict[str, str]] | None:
    marks = list(form.turn.finditer(text))
    if not marks:
        return None
    before = _strip_begin(text[: marks[0].start()])
    if before and not form.preamble or len(before) > 1000:
        return None
    turns = [{"role": "system", "content": before}] if before and not before.startswith("Below is an instruction") else []
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        role = _ROLES.get(mark.group(1).lower())
        if role is None:
            return None
        content, _ = strip_ends(_strip_next_begin(text[mark.end() : following.start() if following else len(text)].strip()))
        if role == "user":
            content = _INPUT_INSIDE.sub("\n\n", content)
            inside = _SYSTEM_INSIDE.match(content)
            if inside:
                turns.append({"role": "system", "content": inside.group(1)})
                content = content[inside.end() :]
        turns.append({"role": role, "content": _strip_begin(content)})
    roles = [turn["role"] for turn in turns]
    if "user" not in roles or "assistant" not in roles[roles.index("user") :]:
        return None
    return turns


def _strip_next_begin(text: str) -> str:
    """Without what begins the text anew before the next turn, as Llama 2's `</s><s>[INST]`."""
    return next((text.removesuffix(begin) for begin in _BEGINS if begin not in ENDS and text.endswith(begin)), text)


def _strip_begin(text: str) -> str:
    text = text.strip()
    while begin := next((begin for begin in _BEGINS if text.startswith(begin)), ""):
        text = text[len(begin) :].strip()
    return text
