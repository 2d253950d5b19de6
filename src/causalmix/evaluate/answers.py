"""Local lm-eval tasks: the likelihood of a held-out document's answer, named in ``tasks/answer.yaml``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from causalmix.evaluate.heldout import Heldout, read_heldout

Document = dict[str, Any]


class Documents(list[Document]):
    """Documents of one task in memory, with the one attribute that lm-eval reads of a data set."""

    features = dict.fromkeys(("id", "messages", "answer"))


class AnswerTask(ConfigurableTask):  # type: ignore[misc]
    """A task whose context is a rendered conversation and whose continuation is the next assistant turn."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def build_all_requests(self, *, chat_template: Callable[..., str], **_: Any) -> None:
        """Make one likelihood request a document.

        Parameters
        ----------
        chat_template : callable
            Renders turns, with ``add_generation_prompt``.
        """
        self._instances = [
            Instance(
                request_type="loglikelihood",
                doc=document,
                arguments=(chat_template(document["messages"], add_generation_prompt=True), document["answer"]),
                idx=0,
                metadata=(self.config.task, at, 1),
            )
            for at, document in enumerate(self.eval_docs)
        ]


def load_dataset(*, path: str, task: str, limit: int | None = None, **_: Any) -> dict[str, Documents]:
    """Give lm-eval the documents of one task.

    Parameters
    ----------
    path : str
        A held-out file.
    task : str
        Must be in it.
    limit : int, optional
        Documents at most, from the first.
    """
    documents = _read_once(Path(path), Path(path).stat().st_mtime_ns)[task]
    return {
        "test": Documents({"id": d.id, "messages": list(d.messages), "answer": d.answer} for d in documents[:limit])
    }


def get_question(document: Document) -> str:
    """Return the last turn before the answer; the request itself holds the whole conversation."""
    return str(document["messages"][-1]["content"])


def get_answer(document: Document) -> str:
    """Return the text whose likelihood is asked for."""
    return str(document["answer"])


def measure_answer(document: Document, results: list[tuple[float, bool]]) -> dict[str, Any]:
    """Turn one response into metrics.

    Returns
    -------
    dict
        ``bits_per_byte``: (bits, UTF-8 bytes) of the answer, for :func:`pool_bits`; ``accuracy``: 1 where
        greedy decoding gives the answer exactly.
    """
    log_likelihood, is_greedy = results[0]
    bits = -log_likelihood / math.log(2)
    return {"bits_per_byte": (bits, len(document["answer"].encode())), "accuracy": float(is_greedy)}


def pool_bits(items: Iterable[tuple[float, int]]) -> float:
    """Bits per byte of a task: all bits over all bytes, so that long answers weigh more."""
    pairs = list(items)
    return math.fsum(bits for bits, _ in pairs) / sum(n_bytes for _, n_bytes in pairs)


@lru_cache(maxsize=2)
def _read_once(path: Path, modified_ns: int) -> dict[str, list[Heldout]]:
    # One file serves all tasks; its time of change keeps a rewritten file from being served stale.
    return read_heldout(path)
