"""The writing-style rater: a sequence classifier with QuRater's four logits, trained on pairs of texts.

A pair says that one text is better than another: Bradley-Terry, ``P(a beats b) = sigmoid(s_a - s_b)``, on
logit 0. The other three logits (expertise, facts, educational value) keep their place and are not trained.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from causalmix.config import RaterConfig
from causalmix.errors import PoolError
from causalmix.pool.scores.reader import read_texts
from causalmix.pool.scores.scorer import ScoredText, pad_right
from causalmix.pool.tokenizer import require_pinned

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

N_LOGITS = 4  # writing_style, required_expertise, facts_and_trivia, educational_value
STYLE_LOGIT = 0
HEAD_SIZE = 16
TRAIN_LENGTH = 128  # tokens of a text that training reads: its end, where the answer is
WARMUP_STEPS = 20  # then a straight line down to zero
LEAST_GAP = 0.2  # two qualities closer than this are no judgement
Pair = tuple[str, str]  # better, worse


def pair_by_quality(
    texts: Sequence[ScoredText],
    qualities: NDArray[np.float64],
    domain_ids: NDArray[Any],
    n_pairs: int,
    seed: int,
) -> list[Pair]:
    """Pair texts of one domain whose quality labels differ clearly.

    Raises
    ------
    PoolError
        Where labels are missing or hardly differ.
    """
    if np.isnan(qualities).any():
        raise PoolError("pool.scores.rater.pairs=quality needs a quality label on every reference document.")
    rng = np.random.default_rng(seed)
    members = {domain: np.flatnonzero(domain_ids == domain) for domain in np.unique(domain_ids)}
    pairs: list[Pair] = []
    for _ in range(50 * n_pairs):
        if len(pairs) == n_pairs:
            return pairs
        first = int(rng.integers(len(texts)))
        second = int(rng.choice(members[domain_ids[first]]))
        if abs(qualities[first] - qualities[second]) >= LEAST_GAP:
            better, worse = (first, second) if qualities[first] > qualities[second] else (second, first)
            pairs.append((texts[better].text, texts[worse].text))
    raise PoolError(
        f"only {len(pairs)} of {n_pairs} pairs of reference documents differ by {LEAST_GAP} in quality; "
        f"use pool.scores.rater.pairs=corrupted."
    )


def pair_by_corruption(texts: Sequence[ScoredText], n_pairs: int, seed: int) -> list[Pair]:
    """Pair each text with a copy whose output is spoilt: words shuffled, dropped or repeated.

    Raises
    ------
    PoolError
        Where no output has the three words a corruption needs.
    """
    rng = np.random.default_rng(seed)
    usable = [text for text in texts if len(text.output.split()) >= 3]
    if not usable:
        raise PoolError("no reference document has three words to corrupt; give pool.scores.rater.path instead.")
    pairs: list[Pair] = []
    while len(pairs) < n_pairs:
        text = usable[int(rng.integers(len(usable)))]
        pairs.append((text.text, ScoredText(text.prompt, corrupt(text.output, rng)).text))
    return pairs


def corrupt(text: str, rng: np.random.Generator) -> str:
    """Shuffle, drop or repeat a third of the words of ``text``; white space stays with its word."""
    words = re.findall(r"\S+\s*|^\s+", text)
    kind = int(rng.integers(3))
    hit = np.sort(rng.permutation(len(words))[: max(2, len(words) // 3)])
    if kind == 0:
        moved = rng.permutation(hit)
        if (moved == hit).all():
            moved = np.roll(hit, 1)
        shuffled = list(words)
        for to, source in zip(hit, moved):
            shuffled[to] = words[source]
        return "".join(shuffled)
    times = np.ones(len(words), dtype=int)
    times[hit] = 0 if kind == 1 else 2
    return "".join(word * int(count) for word, count in zip(words, times))


def train_rater(
    cfg: RaterConfig,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[Pair],
    *,
    vocab_size: int,
    progress: bool,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Train a small rater on pairs.

    Returns
    -------
    model : PreTrainedModel
        ``Qwen2ForSequenceClassification`` with four logits.
    summary : dict
        Pairs, steps, and the share of the last tenth of the training pairs it orders rightly.
    """
    model = _build_rater(cfg, vocab_size, int(tokenizer.pad_token_id))
    empty = np.array([tokenizer.eos_token_id])
    readings = read_texts(tokenizer, [text for pair in pairs for text in pair])
    rows = [reading.ids[-TRAIN_LENGTH:].copy() if len(reading.ids) else empty for reading in readings]
    n_held = max(1, len(pairs) // 10)
    n_train = len(pairs) - n_held
    rng = np.random.default_rng([cfg.seed, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr_peak, weight_decay=0.01)
    model.train()
    for step in tqdm(range(cfg.n_steps), desc="train rater", unit="step", disable=None if progress else True):
        drawn = rng.integers(n_train, size=cfg.batch_pairs)
        gaps = _score_gaps(model, rows, drawn, int(tokenizer.pad_token_id))
        loss = -torch.nn.functional.logsigmoid(gaps).mean()
        for group in optimizer.param_groups:
            group["lr"] = cfg.lr_peak * min((step + 1) / WARMUP_STEPS, 1 - step / cfg.n_steps)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.inference_mode():
        held = np.arange(n_train, len(pairs))
        right = [
            _score_gaps(model, rows, held[at : at + cfg.batch_pairs], int(tokenizer.pad_token_id)) > 0
            for at in range(0, n_held, cfg.batch_pairs)
        ]
    accuracy = float(torch.cat(right).double().mean())
    return model, {"n_pairs": n_train, "n_steps": cfg.n_steps, "accuracy_heldout": accuracy}


def load_rater(path: str, revision: str | None = None) -> PreTrainedModel:
    """Load a rater, from a folder or from the Hub by name and commit.

    Raises
    ------
    PoolError
        Where the name is not pinned, the weights cannot be loaded, or there are not four logits.
    """
    from transformers import AutoModelForSequenceClassification

    pinned = None if require_pinned("pool.scores.rater", path, revision) else revision
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            path, revision=pinned, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise PoolError(f"no rater can be loaded from pool.scores.rater.path={path}: {error}") from error
    if model.config.num_labels != N_LOGITS:
        raise PoolError(f"the rater {path} has {model.config.num_labels} logits; QuRater's shape has {N_LOGITS}.")
    return model.eval()


def _build_rater(cfg: RaterConfig, vocab_size: int, pad_id: int) -> PreTrainedModel:
    from transformers import Qwen2Config, Qwen2ForSequenceClassification

    n_heads = cfg.hidden_size // HEAD_SIZE
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=cfg.hidden_size,
        intermediate_size=cfg.hidden_size * 11 // 4,
        num_hidden_layers=cfg.n_layers,
        num_attention_heads=n_heads,
        num_key_value_heads=n_heads,
        max_position_embeddings=max(cfg.chunk_length, TRAIN_LENGTH),
        num_labels=N_LOGITS,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        return Qwen2ForSequenceClassification(config)


def _score_gaps(
    model: PreTrainedModel, rows: Sequence[NDArray[np.integer[Any]]], drawn: NDArray[Any], pad_id: int
) -> torch.Tensor:
    batch = [rows[2 * at] for at in drawn] + [rows[2 * at + 1] for at in drawn]
    ids = torch.from_numpy(pad_right(batch, pad_id))
    mask = torch.from_numpy(pad_right([np.ones(len(row), dtype=np.int64) for row in batch], 0))
    styles: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits[:, STYLE_LOGIT]
    return styles[: len(drawn)] - styles[len(drawn) :]
