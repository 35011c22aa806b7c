"""Conversations out of trees of messages, as OpenAssistant publishes them: a row for each message, or a tree in a row. Pure.

Of several replies to one message the one that people ranked first is taken; the others are worse answers to the same question.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def is_message(row: Any) -> bool:
    """Whether it is one message of a tree, which alone is no example."""
    return isinstance(row, Mapping) and {"message_id", "parent_id", "text", "role"} <= set(row)


def is_tree(row: Any) -> bool:
    """Whether it is a whole tree."""
    return isinstance(row, Mapping) and isinstance(row.get("prompt"), Mapping) and isinstance(row["prompt"].get("replies"), Sequence)


def plant_trees(messages: Sequence[tuple[str, Mapping[str, Any]]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where its first message stands, the tree) of messages in any order."""
    replies: dict[Any, list[Mapping[str, Any]]] = {}
    for _, message in messages:
        replies.setdefault(message["parent_id"] or None, []).append(message)
    known = {message["message_id"] for _, message in messages}
    for where, message in messages:
        if not message["parent_id"] or message["parent_id"] not in known:
            yield where, {"prompt": _grow(message, replies)}


def _grow(root: Mapping[str, Any], replies: Mapping[Any, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Without recursion: a talk may be as long as it likes."""
    grown = {**root, "replies": []}
    waiting = [grown]
    while waiting:
        message = waiting.pop()
        message["replies"] = [{**reply, "replies": []} for reply in replies.get(message["message_id"], ())]
        waiting += message["replies"]
    return grown


def climb(tree: Mapping[str, Any]) -> tuple[list[dict[str, str]], int]:
    """(turns along the best replies, ending with an answer; how many messages of the tree are in none of them)."""
    turns, message = [], tree["prompt"]
    while message is not None:
        turns.append({"role": str(message.get("role", "")), "content": str(message.get("text", ""))})
        usable = [reply for reply in message.get("replies") or () if not reply.get("deleted") and reply.get("review_result") is not False]
        message = min(usable, key=_rank, default=None)
    while turns and turns[-1]["role"] in ("prompter", "user"):
        turns.pop()
    return turns, _count(tree["prompt"]) - len(turns)


def _rank(reply: Mapping[str, Any]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, int | float) else float("inf")


def _count(root: Mapping[str, Any]) -> int:
    count, waiting = 0, [root]
    while waiting:
        message = waiting.pop()
        count += 1
        waiting += message.get("replies") or ()
    return count
