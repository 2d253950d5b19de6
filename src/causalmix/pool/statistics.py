"""What a pool is like: lengths by domain, and the languages of a sample. For reading; no fit uses them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

    from causalmix.pool.selection import Selection

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TEXT = 1000  # characters of a document whose language is guessed
LONGEST_S = 60.0  # what takes longer is left out, and the number that was looked at is said


def summarise_lengths(
    lengths: NDArray[np.int64], domain_ids: NDArray[np.uint16], domains: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Summarise lengths (characters or tokens a document): mean, quantiles and largest, by domain."""
    summary = {}
    for at, domain in enumerate(domains):
        own = lengths[domain_ids == at]
        quantiles = {f"q{q:g}": float(value) for q, value in zip(QUANTILES, np.quantile(own, QUANTILES))}
        summary[domain] = {"mean": float(own.mean()), **quantiles, "max": float(own.max())}
    return summary


class LanguageSampler:
    """Keep the text of a random sample of documents while they pass by, then guess each one's language.

    The sample is decided by the documents' ids, so it is the same for any number of processes.
    """

    def __init__(self, wanted: int, selection: Selection) -> None:
        positions = np.flatnonzero(selection.kept)
        chosen = positions[np.argsort(selection.keys[positions], kind="stable")[:wanted]]
        self.is_chosen = np.zeros(len(selection.kept), dtype=bool)
        self.is_chosen[chosen] = True
        self.is_chosen = self.is_chosen[selection.kept]
        self.at = 0
        self.texts: list[tuple[str, str]] = []

    def look(self, documents: pa.Table) -> None:
        """Keep what is chosen of the next documents of the pool."""
        chosen = self.is_chosen[self.at : self.at + documents.num_rows]
        self.at += documents.num_rows
        for row in np.flatnonzero(chosen).tolist():
            record = documents.slice(row, 1).to_pylist()[0]
            text = "\n".join(turn["content"][:TEXT] for turn in record["messages"])
            self.texts.append((record["domain"], text[:TEXT]))

    def guess(self) -> dict[str, Any]:
        """Guess the languages with py3langid: domain -> language -> share, and how many were looked at."""
        if not self.texts:
            return {}
        import py3langid

        counts: dict[str, Counter[str]] = defaultdict(Counter)
        started = time.monotonic()
        looked = 0
        for domain, text in self.texts:
            if time.monotonic() - started > LONGEST_S:
                break
            counts[domain][str(py3langid.classify(text)[0])] += 1
            looked += 1
        shares = {
            domain: {name: n / of.total() for name, n in of.most_common()} for domain, of in sorted(counts.items())
        }
        return {"n_documents": looked, "shares": shares}
