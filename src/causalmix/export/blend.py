"""What an exporter is told: shares, counts and where each domain's data lies."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from causalmix.errors import MixtureError, name_some
from causalmix.files import write_text

if TYPE_CHECKING:
    from causalmix.pool.store import Pool


@dataclass(frozen=True)
class Stage:
    """A mixture that holds from a step on."""

    step: int
    weights: dict[str, float]


@dataclass(frozen=True)
class Blend:
    """A mixture to be written for a trainer.

    Attributes
    ----------
    weights : dict of str to float
        Shares of documents; they sum to one.
    counts : dict of str to int or None
        Documents of each domain, repeats counted, where the size is known.
    available : dict of str to int or None
        Documents that each domain has, where that is known.
    tokens_per_document : dict of str to float or None
        Mean tokens of a domain's documents, where a pool was given.
    stages : tuple of Stage
        The mixture from step 0 on, then later ones.
    data : str
        Path of a domain's data, with ``{domain}`` in it.
    seed : int
    about : tuple of str
        Sentences that every exported file starts with, where its format has comments.
    pool : Pool or None
    """

    weights: dict[str, float]
    counts: dict[str, int] | None
    available: dict[str, int] | None
    tokens_per_document: dict[str, float] | None
    stages: tuple[Stage, ...]
    data: str
    seed: int
    about: tuple[str, ...]
    pool: Pool | None = field(default=None, repr=False)

    @property
    def domains(self) -> tuple[str, ...]:
        """Domains with a share above zero: samplers hang or fail on sources that they must never draw."""
        return tuple(name for name, share in self.weights.items() if share > 0 and self.count(name) != 0)

    @property
    def shares(self) -> dict[str, float]:
        """Shares of documents of ``domains``, summing to one."""
        return self._keep(self.weights)

    @property
    def token_weights(self) -> dict[str, float]:
        """Shares of tokens, for trainers that mix tokens or packed sequences.

        ``w_k m_k / sum_j w_j m_j`` with m the mean tokens of a domain's documents; the shares of documents
        where no pool says how long documents are.
        """
        return self._keep(_to_tokens(self.weights, self.tokens_per_document))

    def stage_weights(self, stage: Stage) -> dict[str, float]:
        """Shares of tokens of one stage, every domain in it."""
        return _to_tokens(stage.weights, self.tokens_per_document)

    @property
    def token_note(self) -> str:
        """Say what the shares of a format that mixes tokens are."""
        if self.tokens_per_document is None:
            return (
                "This trainer mixes tokens, CausalMix documents: where documents differ in length over domains, "
                "export again with --pool, which turns one into the other."
            )
        return "Turned into shares of tokens with the mean length of the pool's documents, by its own tokenizer."

    def count(self, domain: str) -> int | None:
        """Documents of a domain, None where the size is not known."""
        return None if self.counts is None else self.counts[domain]

    def path(self, domain: str) -> str:
        """Where a domain's data lies."""
        return self.data.replace("{domain}", domain)

    def _keep(self, weights: dict[str, float]) -> dict[str, float]:
        total = sum(weights[name] for name in self.domains)
        return {name: weights[name] / total for name in self.domains}

    def comment(self, *more: str, sign: str = "# ") -> str:
        """Spell what the file must say about itself, as comment lines."""
        return "".join(f"{sign}{line}\n" for line in (*self.about, *more))


def _to_tokens(weights: dict[str, float], means: dict[str, float] | None) -> dict[str, float]:
    if means is None:
        return dict(weights)
    tokens = {name: share * means[name] if share > 0 else 0.0 for name, share in weights.items()}
    total = sum(tokens.values())
    return {name: value / total for name, value in tokens.items()}


def require_counts(blend: Blend, name: str) -> dict[str, int]:
    """Return the counts, or say how to get them.

    Raises
    ------
    MixtureError
        Where neither ``mixture.json`` nor the command says how many documents to train on.
    """
    if blend.counts is None:
        raise MixtureError(
            f"--to {name} needs counts of documents, and the mixture has none: give --n-samples N, or analyse again "
            f"with target.n_samples=N."
        )
    return blend.counts


def require_available(blend: Blend, name: str) -> dict[str, int]:
    """Return how many documents each domain has, or say how to get that.

    Raises
    ------
    MixtureError
    """
    if blend.available is None:
        raise MixtureError(
            f"--to {name} spells repeats out, so it must know how many documents each domain has; not known for "
            f"{name_some(blend.domains)}. Give --pool STORE (`causalmix pool prepare` prints it)."
        )
    return blend.available


def write_files(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write files into a folder, each whole or not at all; return their paths."""
    paths = []
    for name, text in texts.items():
        write_text(folder / name, text)
        paths.append(folder / name)
    return paths
