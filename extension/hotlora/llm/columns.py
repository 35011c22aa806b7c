"""What keys and columns of data sets are called, in the languages that people write them in. Pure."""

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

QUESTIONS = {  # key, and what a shape with it is called; the first that a row has is its question
    "instruction": "alpaca",
    "prompt": "prompt/completion",
    **dict.fromkeys(
        (
            "question",
            "q",
            "query",
            "user",
            "human",
            "input",
            "source",
            "problem",
            "request",
            "user_message",
            "user_input",
            "user_prompt",
            "user_query",
            "human_message",
            "input_text",
            "source_text",
            "message",
        ),
        "question/answer",
    ),
}
ANSWERS: tuple[str, ...] = ("output", "completion", "response", "answer", "a", "reply", "assistant", "gpt", "bot", "target", "solution")
ANSWERS += ("assistant_message", "assistant_response", "bot_message", "bot_response", "model_response", "model_output", "ai_response")
ANSWERS += ("model_answer", "gpt_response", "output_text", "target_text", "answer_text")
ANSWERS += ("expected_output", "expected_answer", "expected_response", "ideal", "ideal_answer", "reference_answer", "ground_truth")
CONTEXT = ("input", "context")  # further text of an alpaca or question/answer row
SYSTEM = ("system", "system_prompt", "system_message")
TURNS = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat")
PLAIN = ("text", "content")
HISTORY: tuple[str, ...] = ("history", "chat_history", "conversation_history", "dialog_history", "dialogue_history", "previous_turns")
HISTORY += ("previous_messages", "past_messages", "message_history", "context_messages")
THOUGHTS: tuple[str, ...] = ("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "think", "complex_cot", "cot")
THOUGHTS += ("chain_of_thought", "rationale", "deepseek_reasoning", "thinking_content", "thought_process", "reasoning_trace")
THOUGHTS += ("thinking_trajectory", "thinking_trajectories", "deepseek_thinking_trajectory")
REJECTED = (
    "rejected",
    "rejected_response",
    "rejected_responses",
    "rejected_messages",
    "rejected_answer",
    "rejected_output",
    "dispreferred",
)
CHOSEN = ("chosen", "chosen_response", "preferred")

# Names of one thing in the plural: a column may be called so, but a list of that name is another thing.
PLURALS = {"questions": "question", "answers": "answer", "responses": "response", "outputs": "output", "instructions": "instruction"}
PLURALS |= {"prompts": "prompt", "completions": "completion", "solutions": "solution", "problems": "problem", "replies": "reply"}

# Other languages' words, as they are known here by their English ones.
_WORDS = {
    "question": "问题 问 提问 问句 用户问题 題目 题目 問題 問 提問 質問 設問 問い 질문 문제 물음 вопрос вопросы питання запитання frage "
    "fragen pregunta preguntas pergunta perguntas domanda domande vraag vragen pytanie pytania soru sorular otázka otázky "
    "kérdés kérdések întrebare pitanje vprašanje въпрос питање fråga spørsmål spørgsmål kysymys küsimus klausimas jautājums "
    "ερώτηση سؤال السؤال سوال پرسش שאלה प्रश्न सवाल প্রশ্ন คำถาม câu_hỏi hỏi pertanyaan soalan tanong swali galdera "
    "pregunta_usuario",
    "answer": "答案 答 回答 回复 答复 回覆 答覆 解答 答え 返答 답변 답 대답 응답 ответ ответы відповідь antwort antworten respuesta "
    "respuestas resposta respostas risposta risposte réponse réponses antwoord antwoorden odpowiedź odpowiedzi cevap yanıt "
    "odpověď odpověd odpoveď válasz răspuns odgovor отговор одговор svar vastaus vastus atsakymas atbilde απάντηση جواب "
    "الجواب الإجابة إجابة پاسخ תשובה उत्तर जवाब উত্তর คำตอบ câu_trả_lời trả_lời đáp jawaban jawapan sagot jibu erantzuna",
    "instruction": "指令 指示 任务 任務 지시 지시문 명령 инструкция інструкція anweisung instrucción instrução istruzione instructie "
    "polecenie talimat",
    "prompt": "提示 提示词 提示詞 プロンプト 프롬프트 промпт запрос eingabeaufforderung",
    "input": "输入 輸入 入力 입력 ввод вход eingabe entrada ingresso invoer wejście girdi entrée",
    "output": "输出 輸出 出力 출력 вывод выход ausgabe salida saída uscita uitvoer wyjście çıktı sortie",
    "user": "用户 用戶 使用者 ユーザー 사용자 пользователь користувач benutzer nutzer usuario usuário utente gebruiker użytkownik "
    "kullanıcı utilisateur",
    "assistant": "助手 助理 アシスタント 어시스턴트 помощник ассистент помічник assistent asistente assistente asystent asistan",
    "system": "系统 系統 系统提示 系统提示词 系統提示 システム 시스템 система",
    "context": "上下文 背景 文脈 문맥 контекст kontext contexto contesto kontekst bağlam contexte",
    "text": "文本 正文 テキスト 본문 텍스트 текст testo texto tekst metin texte",
    "content": "内容 內容 내용 содержание inhalt contenido conteúdo contenuto inhoud treść içerik contenu",
    "history": "历史 历史对话 歷史 履歴 история",
    "reasoning_content": "思考 思维链 思考过程 推理 推理过程 思維鏈 추론",
    "messages": "对话 對話 会话 対話 대화 диалог диалоги",
    "role": "角色 役割 역할 роль rolle rol ruolo",
    "label": "标签 標籤 ラベル 라벨 метка",
}


@functools.lru_cache(maxsize=4096)
def normalise(key: str) -> str:
    """A key as it is known here: without capitals, accents and odd spaces, in English where it has a counterpart."""
    plain = _fold(str(key))
    if plain not in _translations() and _HUMP.search(str(key)):
        plain = _fold(_HUMP.sub("_", str(key)))
    return _translations().get(plain, plain)


_HUMP = re.compile(r"(?<=[a-z0-9]{2})(?=[A-Z][a-z])")  # questionText, not CoT


def _fold(key: str) -> str:
    letters = unicodedata.normalize("NFKD", key.replace("\ufeff", "").casefold().replace("ß", "ss"))
    kept = "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")
    return re.sub(r"[\s_\-.:]+", "_", unicodedata.normalize("NFC", kept).strip(" \t\r\n:_?*\"'")).replace("ı", "i").replace("ł", "l")


@functools.cache
def _translations() -> dict[str, str]:
    return {_fold(word): english for english, words in _WORDS.items() for word in words.split()}


def find_pair(keys: Iterable[str]) -> tuple[str, str] | None:
    """The normalised keys of question and answer."""
    known = set(keys)
    question = next((name for name in QUESTIONS if name in known), None)
    answer = next((name for name in ANSWERS if name in known), None)
    return (question, answer) if question and answer else None


# In names of several words: what says that a column is question or answer, and what says that it is only about them.
_ASKS = {"question", "prompt", "instruction", "query"}
_REPLIES = {"answer", "response", "completion", "reply", "output"}
_ABOUT = {"id", "ids", "type", "kind", "date", "time", "no", "nr", "num", "number", "index", "idx", "count", "start", "end", "lang", "by"}
_ABOUT |= {"language", "score", "rating", "len", "length", "author", "source", "url", "link", "title", "topic", "category", "tag", "tags"}
_ABOUT |= {"model", "tokens", "status", "label", "hash", "version"}
_SHORTEST_IN_A_WORD = 5  # letters of `frage` in Kundenfrage


def guess_pair(names: Iterable[str]) -> tuple[str, str] | None:
    """The names, as they are written, of question and answer by a word in them (Customer Question, 标准问题, Musterantwort); nothing where
    several could be either."""
    asks, replies = list[str](), list[str]()
    for name in names:
        if not isinstance(name, str) or len(name) > 40 or _ends(name.rstrip("?:")) or len(words := _list_words(name)) > 4 or words & _ABOUT:
            continue
        said = words & _ASKS, words & _REPLIES
        if any(word.isdigit() for word in words):
            continue  # `Question 1` may be the first row
        if any(said) and not all(said):
            (asks if said[0] else replies).append(name)
    return (asks[0], replies[0]) if len(asks) == len(replies) == 1 else None


def _list_words(name: str) -> set[str]:
    """The words of a name, in English where they are known, also those that end longer ones or stand in Chinese or Japanese."""
    words = set[str]()
    for word in re.findall(r"[^\W_]+", _fold(_HUMP.sub("_", name))):
        parts = [known for known in _translations() if _stands_in(known, word)]
        words |= {normalise(part) for part in parts} or {PLURALS.get(word, word)}
    return words


def _stands_in(known: str, word: str) -> bool:
    if known.isascii():
        return word == known or len(known) >= _SHORTEST_IN_A_WORD and word.endswith(known)
    is_whole = unicodedata.name(known[0], "").startswith("CJK")  # of no script that puts spaces between words
    return known in word if is_whole and len(known) > 1 else word == known


def knows_shape(names: Iterable[str]) -> bool:
    """Whether a row with these keys has a known shape."""
    written = list(names)
    keys = {PLURALS.get(normalise(name), normalise(name)) for name in written}
    return any(name in keys for name in (*TURNS, *PLAIN, *CHOSEN)) or (find_pair(keys) or guess_pair(written)) is not None


def is_known(name: str) -> bool:
    """Whether a column of this name can be a part of what is learned."""
    plain = PLURALS.get(normalise(name), normalise(name))
    return plain in QUESTIONS or any(plain in names for names in (ANSWERS, CONTEXT, SYSTEM, TURNS, PLAIN, HISTORY, THOUGHTS))


def looks_like_header(first: list[str], others: list[list[str]]) -> bool:
    """Whether two cells above others, in no language that is known here, are names and not a question and an answer: short, without
    a sentence's end, and all others are longer or end as sentences do."""
    if len(first) != 2 or not others or any(len(cell) > 24 or len(cell.split()) > 3 or _ends(cell) or cell.isdigit() for cell in first):
        return False
    told = [row for row in others if len(row) == 2]
    longer = sum(_ends(row[0]) or len(row[0]) > 2 * len(first[0]) for row in told)
    return bool(told) and longer > 0.8 * len(told) and first[0].casefold() != first[1].casefold()


def _ends(cell: str) -> bool:
    return cell.rstrip("\"'»”’) ")[-1:] in tuple(".?!…。？！؟।;:")


# -- names that people say themselves ------------------------------------------------------------------------------------

MAPPED = ("question", "answer", "system", "context", "text", "messages", "source")  # what `columns` may name, as it is known here
SOURCE = "source_of_the_row"  # the known name of what `columns` calls source: the word itself is a question's, in translations
_ASIDE = "{name} (columns names another)"


def rename(names: Sequence[str], columns: Mapping[str, str]) -> tuple[list[str], bool]:
    """(names of columns, those that ``columns`` speaks of by their known names; whether there is any). One that bears a known name but is
    not meant gets out of its way."""
    meant = {_fold(column): SOURCE if known == "source" else known for known, column in columns.items()}
    folded = [_fold(name) for name in names]
    if not any(name in meant for name in folded):
        return list(names), False
    taken, renamed = set(meant.values()), list[str]()
    for name, plain in zip(names, folded, strict=True):
        known = meant.pop(plain, "")
        renamed.append(known or (_ASIDE.format(name=name) if PLURALS.get(normalise(name), normalise(name)) in taken else name))
    return renamed, True


def rename_row(row: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[Mapping[str, Any], bool]:
    """The same for a row by its keys."""
    names, is_mapped = rename([str(key) for key in row], columns)
    return (dict(zip(names, row.values(), strict=True)) if is_mapped else row), is_mapped


def find_absent(names: Iterable[str], columns: Mapping[str, str]) -> list[str]:
    """What ``columns`` names and is not among these names."""
    there = {_fold(name) for name in names}
    return [column for column in columns.values() if _fold(column) not in there]
