"""A generated corpus of realistic length: several files a domain, some documents twice, some almost twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

DOMAINS = ("coding", "instruction_following", "knowledge", "math", "safety")
SHARES = (0.2, 0.25, 0.25, 0.2, 0.1)
N_WORDS, N_SENTENCES, N_FILES = 20_000, 20_000, 4
EXACT, NEAR = 0.03, 0.03  # shares of documents that repeat the one before: to the letter, or but for a word
SYLLABLES = ["ta", "ri", "no", "sel", "mo", "ka", "du", "ver", "in", "ol", "pe", "sha", "gu", "len", "ith", "bra"]


def write_corpus(folder: Path, n_documents: int, seed: int = 0) -> int:
    """Write ``train-<domain>-<n>.jsonl`` with a field ``domain``; return the size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = np.floor(n_documents * np.array(SHARES)).astype(int)
    counts[0] += n_documents - counts.sum()
    for at, (domain, count) in enumerate(zip(DOMAINS, counts)):
        documents = generate(domain, int(count), seed * 100 + at)
        for number, size in enumerate(_split(int(count))):
            with (folder / f"train-{domain}-{number}.jsonl").open("w", encoding="utf-8") as handle:
                for _ in range(size):
                    handle.write(json.dumps(next(documents), ensure_ascii=False) + "\n")
    return sum(path.stat().st_size for path in folder.iterdir())


def generate(domain: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield documents: a question of one or two sentences and an answer of five to sixteen, 100-300 tokens."""
    rng = np.random.default_rng(seed)
    sentences = _make_sentences(rng)
    previous: list[str] = []
    for at in range(count):
        kind = rng.random()
        if previous and kind < EXACT:
            chosen = previous
        elif previous and kind < EXACT + NEAR:
            chosen = [*previous[:-1], previous[-1].replace(" ", " again ", 1)]
        else:
            size = int(rng.integers(6, 19))
            chosen = [sentences[k] for k in rng.integers(len(sentences), size=size)]
        asked = 1 + (len(chosen) > 10)
        yield {
            "id": f"{domain}-{at:07d}",
            "domain": domain,
            "messages": [
                {"role": "user", "content": " ".join(chosen[:asked])},
                {"role": "assistant", "content": " ".join(chosen[asked:])},
            ],
        }
        previous = chosen


def _make_sentences(rng: np.random.Generator) -> list[str]:
    """Make sentences of 6 to 14 words; words come up as often as in a language, by Zipf's law."""
    words = ["".join(rng.choice(SYLLABLES, size=size)) for size in rng.integers(1, 5, size=N_WORDS)]
    odds = 1 / np.arange(1, N_WORDS + 1)
    drawn = rng.choice(N_WORDS, size=N_SENTENCES * 14, p=odds / odds.sum())
    sizes = rng.integers(6, 15, size=N_SENTENCES)
    return [
        " ".join(words[k] for k in drawn[at * 14 : at * 14 + size]).capitalize() + f" {at % 97}."
        for at, size in enumerate(sizes)
    ]


def _split(count: int) -> list[int]:
    size = count // N_FILES
    return [size] * (N_FILES - 1) + [count - size * (N_FILES - 1)]
