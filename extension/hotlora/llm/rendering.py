"""From conversations to tokens: what the model reads, and which tokens of it are learned.

Owns the proof, made for every conversation anew, that the tokens said to be the assistant's are those that follow the prompt the
model will answer. Neither token masks from templates (mostly silently empty) nor searches for marker strings are relied on.
The tokenizer is a fast one of Hugging Face's, handed in and never changed; transformers is not imported.
"""

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import TemplateError

from ..engine.errors import UserError
from .config import TextConfig
from .conversation import Conversation, Document, Message, TokenizedExample
from .formats import list_notes
from .templates import asks_for_date, check_arguments, choose_template, freeze_date
from .thoughts import find_opening, knows_thoughts, mend_thought, split_thought, write_thought

_PROBE = (Message("user", "quagga"), Message("assistant", "okapi"))
_SYSTEM_PROBE = Message("system", "numbat")
_THOUGHT_KEY = re.compile(r"(?:\.|\[['\"])(reasoning_content|thinking)\b")
_TAIL_TOKENS = 40  # more than any template opens a thought with
_ENDED = "ending with {end} already, which was taken off: the chat template writes its own end"
_NO_PLACE = "with a thought that is not learned: the chat template has no place for it"
_CLOSED = "with a thought that is not learned: the chat template, as it is told, asks for an answer without one"
_WITHOUT = "whose answer has no thought before it: a model that thinks before it answers learns not to"


class Renderer:
    """Writes conversations with a chat template, and documents without.

    Args:
        tokenizer: a Hugging Face fast tokenizer.
        host_template: what the program that holds the model writes conversations with, where that is not the tokenizer's own.

    Attributes:
        template: the Jinja text in use; empty where question and answer are joined as they are.
        template_name: what people call it.
        stop_ids: tokens that end an assistant's turn.

    Raises:
        UserError: for a template that cannot be used with any conversation.
    """

    def __init__(self, tokenizer: Any, config: TextConfig, host_template: str | None = None):
        self._tokenizer, self._config = tokenizer, config
        chosen = choose_template(config.chat_template, host_template, tokenizer)
        self.template, self.template_name = chosen.text, chosen.name
        self._warnings = [chosen.warning] if chosen.warning else []
        self._noted: dict[str, list[str]] = {}
        self._written = self.template
        if asks_for_date(self.template):
            config.template_date = config.template_date or datetime.date.today().isoformat()
            self._written = freeze_date(self.template, config.template_date)
        check_arguments(config.template_args, chosen)
        found = _THOUGHT_KEY.search(self.template)
        self._thinks, self._thought_key = knows_thoughts(self.template), found.group(1) if found else ""
        self._bos: int | None = tokenizer.bos_token_id
        self._eos: int | None = tokenizer.eos_token_id
        self._adds_bos = self._bos is not None and list(tokenizer("a", verbose=False)["input_ids"])[:1] == [self._bos]
        self._takes_system = self._try_system_prompt()
        self._stop_texts: list[str] = []
        self._turn_end = self._find_turn_end()
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys(i for i in (self._turn_end, self._eos) if i is not None))
        self._stop_texts = [self.decode([token]) for token in self.stop_ids]
        if not self.stop_ids:
            raise UserError(
                f"cannot train with the chat template '{self.template_name}': neither it nor the tokenizer has a token that "
                "ends an answer. Set chat_template to another one."
            )

    @property
    def warnings(self) -> list[str]:
        """What people should know about the template, and of what was written with it so far."""
        return [*self._warnings, *list_notes(self._noted)]

    # -- encoding ------------------------------------------------------------------------------------------------------

    def encode(self, conversation: Conversation) -> list[TokenizedExample]:
        """The conversation as one example, or as one per answer where the template writes earlier turns otherwise than last ones.

        Raises:
            UserError: where the template cannot write it, or not so that answers follow their prompts. Names source and template.
        """
        messages = self._prepare(conversation.messages, conversation.source)
        # Nothing comes before a turn that opens the conversation, so nothing asks for it.
        answers = [place for place, message in enumerate(messages) if message.role == "assistant" and place > 0 and message.learned]
        try:
            if self._config.train_on == "everything":
                return [self._encode_everything(messages, answers, conversation.source)]
            if not answers:
                tokens = self._encode_text(self._write(messages))
                return [TokenizedExample(tuple(tokens), (False,) * len(tokens), conversation.source)]
            messages = messages[: answers[-1] + 1]
            whole = self._encode_whole(messages, answers, conversation.source)
            return [whole] if whole else [self._encode_answer(messages, place, conversation.source) for place in answers]
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot write {conversation.source} with the chat template '{self.template_name}': {error}. "
                "Change the conversation, or set chat_template to another one."
            ) from error

    def encode_document(self, document: Document) -> list[TokenizedExample]:
        """A text in pieces of at most ``max_tokens``. Each token but the first of all is learned once; what a piece repeats from the
        one before, ``overlap_tokens`` and at least one, is context."""
        tokens = self._encode_text(document.text)
        while tokens and tokens[-1] == self._eos:
            tokens.pop()
        tokens += [] if self._eos is None else [self._eos]
        longest, overlap = self._config.max_tokens, max(self._config.overlap_tokens, 1)
        pieces, start, context = [], 0, 1
        while start + context < len(tokens):
            piece = tokens[start : start + longest]
            trained = (False,) * context + (True,) * (len(piece) - context)
            pieces.append(TokenizedExample(tuple(piece), trained, document.source))
            start, context = start + longest - overlap, overlap
        return pieces or [TokenizedExample(tuple(tokens), (False,) * len(tokens), document.source)]

    def encode_question(self, prompt: str) -> list[int]:
        """What the model reads before it answers ``prompt``.

        Raises:
            UserError: where the template cannot write it.
        """
        messages = self._prepare((Message("user", prompt),), "")
        try:
            return self._encode_text(self._write(messages, asks=True))
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot ask '{prompt}' with the chat template '{self.template_name}': {str(error).rstrip('.')}. Set another chat_template."
            ) from error

    # -- one conversation ----------------------------------------------------------------------------------------------

    def _encode_whole(self, messages: Sequence[Message], answers: Sequence[int], source: str) -> TokenizedExample | None:
        """All of it, with its answers learned; None where a rendering up to some turn is not how the whole begins, or where an
        answer in the middle would not be ended by a token."""
        if self._turn_end is None:
            return None
        text = self._write(messages)
        tokens = self._encode_text(text)
        trained = [False] * len(tokens)
        for place in answers:
            before = self._write(messages[:place], asks=True)
            after = text if place == answers[-1] else self._write(messages[: place + 1])
            if self._thinks and mend_thought(before, after, self._thought_of(messages[place])) != after:
                return None
            start, end = self._encode_text(before), tokens if place == answers[-1] else self._encode_text(after)
            if tokens[: len(start)] != start or tokens[: len(end)] != end or len(end) <= len(start):
                return None
            last = self._find_end(tokens, len(start), len(end))
            trained[len(start) : last] = [True] * (last - len(start))
        return self._make_example(tokens, trained, source, (messages, answers[-1], start))

    def _encode_answer(self, messages: Sequence[Message], place: int, source: str) -> TokenizedExample:
        """The turn at ``place``, learned after all that comes before it."""
        before, after = self._write(messages[:place], asks=True), self._write(messages[: place + 1])
        if self._thinks:
            after = mend_thought(before, after, self._thought_of(messages[place]))
        question, tokens = self._encode_text(before), self._encode_text(after)
        if tokens[: len(question)] != question:
            tokens = self._join(before, after, source)
        if self._turn_end is None and self._eos is not None:
            tokens = [*tokens, self._eos]
        last = self._find_end(tokens, len(question), len(tokens))
        trained = [len(question) <= at < last for at in range(len(tokens))]
        return self._make_example(tokens, trained, source, (messages, place, question))

    def _thought_of(self, message: Message) -> str:
        return message.thought or (split_thought(message.content)[0] if self._thinks else "")

    def _join(self, before: str, after: str, source: str) -> list[int]:
        """Tokens of ``before``, then those of the rest of ``after``: what the model reads and then has to say, where the tokenizer
        would join both at their border."""
        tokens = self._encode_text(before) + self.encode_plain(after[len(before) :])
        if not after.startswith(before) or self.decode(tokens) != self.decode(self._encode_text(after)):
            raise UserError(
                f"cannot tell which tokens of {source} are the answer: the chat template '{self.template_name}' writes the prompt "
                "otherwise once it is answered. Set chat_template to another one."
            )
        return tokens

    def _encode_everything(self, messages: Sequence[Message], answers: Sequence[int], source: str) -> TokenizedExample:
        """Every token is learned, whoever says it."""
        tokens = self._encode_text(self._write(messages))
        if self._turn_end is None and self._eos is not None:
            tokens = [*tokens, self._eos]
        trained = [at > 0 for at in range(len(tokens))]
        for place, message in enumerate(messages):
            if not message.learned:
                start, end = (
                    self._encode_text(self._write(messages[:place], asks=True)),
                    self._encode_text(self._write(messages[: place + 1])),
                )
                if tokens[: len(start)] != start or tokens[: len(end)] != end:
                    raise UserError(
                        f"cannot tell which tokens of {source} are the answer that is not to be learned: the chat template "
                        f"'{self.template_name}' writes earlier turns otherwise. Set train_on: answers."
                    )
                trained[len(start) : len(end)] = [False] * (len(end) - len(start))
        if not answers:
            return TokenizedExample(tuple(tokens), tuple(trained), source)
        question = self._encode_text(self._write(messages[: answers[-1]], asks=True))
        return self._make_example(tokens, trained, source, (messages, answers[-1], question))

    def _make_example(
        self, tokens: Sequence[int], trained: Sequence[bool], source: str, answer: tuple[Sequence[Message], int, Sequence[int]]
    ) -> TokenizedExample:
        """``answer``: the messages, the place of the last answer in them, and the tokens that ask for it."""
        messages, place, question = answer
        asked = next((message.content for message in reversed(messages[:place]) if message.role == "user"), "")
        self._note_thought(question, messages[place], source)
        return TokenizedExample(tuple(tokens), tuple(trained), source, tuple(question), messages[place].content, asked)

    def _note_thought(self, question: Sequence[int], message: Message, source: str) -> None:
        """Say what does not become of an answer's thought, or of a thinking model that is shown answers without."""
        if not (self._thinks or self._thought_key):
            if message.thought:
                self._note(_NO_PLACE, source)
            return
        opening, thought = find_opening(self.decode(question[-_TAIL_TOKENS:])), self._thought_of(message)
        closed = opening is not None and opening.closed
        if closed == bool(thought):
            self._note(_CLOSED if thought else _WITHOUT, source)

    def _note(self, kind: str, source: str) -> None:
        known = self._noted.setdefault(kind, [])
        if source not in known[-1:]:
            known.append(source)

    def _find_end(self, tokens: Sequence[int], start: int, end: int) -> int:
        """Where an answer that is written in [start, end) is over: after its last ending token. What a template puts behind that,
        such as a line's end, is never said by a model that has stopped."""
        return next((at + 1 for at in range(end - 1, start - 1, -1) if tokens[at] in self.stop_ids), end)

    # -- text ----------------------------------------------------------------------------------------------------------

    def _prepare(self, messages: Sequence[Message], source: str) -> tuple[Message, ...]:
        """With the run's system prompt, where there is none; as part of the first question, where the template takes none. Answers are
        without the tokens that end them, which the template writes."""
        messages = [self._strip_end(message, source) if message.role == "assistant" else message for message in messages]
        prompt = self._config.system_prompt
        if prompt and not any(message.role == "system" for message in messages):
            messages = (Message("system", prompt), *messages)
        if self._takes_system or not messages or messages[0].role != "system":
            return tuple(messages)
        first, *rest = messages
        if not rest or rest[0].role != "user":
            return (Message("user", first.content), *rest)
        return (Message("user", f"{first.content}\n\n{rest[0].content}"), *rest[1:])

    def _strip_end(self, message: Message, source: str) -> Message:
        """Without the model's own ending tokens at its end; the well-known ones are gone already (see ``written``)."""
        end = next((end for end in self._stop_texts if end and message.content.endswith(end)), "")
        if not end:
            return message
        self._note(_ENDED.format(end=end), source)
        return replace(message, content=message.content.removesuffix(end).rstrip())

    def _write(self, messages: Sequence[Message], *, asks: bool = False) -> str:
        """The messages as text; ``asks``: up to where the assistant has to speak."""
        if not self.template:
            return "".join(message.content for message in messages)
        return self._tokenizer.apply_chat_template(
            [self._as_plain(message) for message in messages],
            chat_template=self._written,
            add_generation_prompt=asks,
            tokenize=False,
            **self._config.template_args,
        )

    def _as_plain(self, message: Message) -> dict[str, str]:
        """As templates take messages; a thought goes where they look for it, or into the answer where they know of thoughts at all."""
        plain = {"role": message.role, "content": message.content}
        if not message.thought or not (self._thinks or self._thought_key):
            return plain
        if self._thought_key:
            return {**plain, self._thought_key: message.thought}
        return {**plain, "content": write_thought(message.thought, message.content)}

    def _encode_text(self, text: str) -> list[int]:
        """Tokens of a whole text. It begins with BOS once, whether the template writes it, the tokenizer adds it, or both would."""
        tokens = self.encode_plain(text)
        if self._bos is None:
            return tokens
        written = next((place for place, token in enumerate(tokens) if token != self._bos), len(tokens))
        return [self._bos] * (written > 0 or self._adds_bos) + tokens[written:]

    def encode_plain(self, text: str) -> list[int]:
        """A text's tokens, and none beside them."""
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def decode(self, tokens: Sequence[int]) -> str:
        """Tokens as text, with special ones, exactly as they are."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    # -- what the template is like -------------------------------------------------------------------------------------

    def _try_system_prompt(self) -> bool:
        """Whether the template takes system prompts. Some refuse them, some leave them out in silence."""
        try:
            return _SYSTEM_PROBE.content in self._write((_SYSTEM_PROBE, *_PROBE))
        except (TemplateError, TypeError, ValueError):
            return False

    def _find_turn_end(self) -> int | None:
        """The token that the template ends an answer with; None where it has none."""
        try:
            text = self._write(_PROBE)
        except (TemplateError, TypeError, ValueError) as error:
            raise UserError(
                f"cannot use the chat template '{self.template_name}': {' '.join(str(error).split())}. Set chat_template to another one."
            ) from error
        _, answer, ending = text.rpartition(_PROBE[1].content)
        if not answer:
            raise UserError(
                f"cannot use the chat template '{self.template_name}': it leaves answers out. Set chat_template to another one."
            )
        special = set(self._special_ids())
        found = next((token for token in self.encode_plain(ending) if token in special), None)
        if found is None and ending.strip():
            self._warnings.append(
                f"The chat template '{self.template_name}' ends answers with '{ending.strip()}', which is no token of this model's: "
                "the tokenizer's end-of-text token is put after it."
            )
        return found

    def _special_ids(self) -> Iterator[int]:
        yield from self._tokenizer.all_special_ids
        yield from (token for token, added in self._tokenizer.added_tokens_decoder.items() if added.special)
