"""Reproduction: gradients agree more on real labels than on random ones, and robust averages memorise less."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from salience.core.progress import Stage
from salience.core.stats import generator
from salience.data.datasets.download import cache_folder
from salience.reproduce.coherence_sets import NAMES, Sample, sample
from salience.reproduce.finished import once
from salience.training.coherence import coherence
from salience.training.coherent_descent import CoherentStep

CARD = {
    "key": "coherence",
    "kind": "reproduction",
    "title": "Gradient coherence on real and random labels, and descent that memorises less",
    "entry": "run",
    "summary": "m-coherence of a fixed sample over epochs with 0, 25, 50, 75 and 100 % of the labels shuffled, on a table, digits, pictures and questions; training and test accuracy of SGD, RM3, M3 and winsorised descent at equal steps.",
    "paper": "On the Generalization Mystery in Deep Learning (Chatterjee, Zielinski, 2022)",
    "year": 2022,
    "url": "https://arxiv.org/abs/2203.10036",
    "deviates": "small networks and small sets in place of ImageNet; the shape of the results is the target, not their numbers; winsorised descent only where a gradient an example fits a small machine (table and digits).",
    "cost": "about half an hour on one core, trainings are kept; quick: a minute",
}
DEFAULT_DATA = Path("../shared/data")
NOISE = (0.0, 0.25, 0.5, 0.75, 1.0)
MODES = ("sgd", "rm3", "m3", "winsorised")
EARLY = 5  # epochs in which coherence is compared
FACTOR = 3.0  # what real labels are to reach above random ones
PROBE_BATCH = 64
LABELS: dict[str, Any] = {
    "rows": 1000,
    "batch": 30,
    "epochs": 15,
    "probe": 512,
}  # coherence, by share of shuffled labels
# few rows, so that they are memorised; epochs after which SGD knows most random labels
DESCENT: dict[str, Any] = {"rows": 400, "batch": 10, "probe": 0}
MEMORISED = {"churn": 30, "digits": 60, "cifar": 8, "trec": 24}
FULL: dict[str, Any] = {"sets": NAMES, "label_seeds": 3, "seeds": 5, "labels": LABELS, "descent": DESCENT}
QUICK: dict[str, Any] = {
    "sets": ("digits",), "label_seeds": 1, "seeds": 2, "labels": {**LABELS, "epochs": 6}, "descent": {**DESCENT, "epochs": 25},
}  # fmt: skip
RATES = {"churn": 0.05, "digits": 0.1, "cifar": 0.01, "trec": 0.1}
DESCENT_RATES = {"churn": 0.1, "digits": 0.1, "cifar": 0.05, "trec": 0.3}
WINSORISED = ("churn", "digits")


def run(data: Path | None = None, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Train small networks on real, partly and wholly shuffled labels, with four kinds of descent.

    Trainings are kept in the cache folder (``SALIENCE_CACHE``).

    Args:
        data: folder with ``churn``, ``cifar10`` and ``trec``.
        quick: digits only, few rows, epochs and seeds.
        seed: first seed.

    Returns:
        ``rows`` of four parts: ``labels`` and ``descent`` (a line a set, share of shuffled labels and descent: highest m-coherence
        of the early epochs, accuracies at the end, means over seeds), ``target: coherence`` (real above random labels)
        and ``target: descent`` (paired differences to SGD over seeds with 95 % intervals); a ``summary`` and ``curves``.

    Raises:
        DataError: a file is absent.
    """
    plan, root = QUICK if quick else FULL, Path(data) if data else DEFAULT_DATA
    folder = cache_folder() / "reproduce" / "coherence"
    todo = list(settings(plan, seed))
    found: dict[Key, list[dict[str, Any]]] = {}
    with Stage("reproduce", len(todo)) as stage:
        for part, name, noise, mode, number in todo:
            rate = (RATES if part == "labels" else DESCENT_RATES)[name]
            options = {"name": name, "noise": noise, "mode": mode, "seed": number, "rate": rate}
            options |= {"epochs": MEMORISED[name], **plan[part]}
            result = once(folder, [options], lambda _, o=options: trained(root, **o))
            found.setdefault((part, name, noise, mode), []).append(result)
            stage.step(f"{name}, {noise:.0%} shuffled, {mode}: test {result['test'][-1]:.3f}")
    rows = [training_row(*key, results) for key, results in found.items()]
    targets = coherence_targets(found) + descent_targets(found)
    curves = [
        {"part": p, "data": n, "shuffled": z, "descent": d, **r}
        for (p, n, z, d), rs in found.items()
        for r in rs
    ]
    return {"rows": rows + targets, "summary": summary(targets), "curves": curves, "gap": CARD["deviates"]}


Key = tuple[str, str, float, str]


def settings(plan: dict[str, Any], seed: int) -> Iterator[tuple[str, str, float, str, int]]:
    """Yield part, set, share of shuffled labels, descent and seed of every training."""
    for repeat in range(plan["label_seeds"]):
        for name in plan["sets"]:
            yield from (("labels", name, noise, "sgd", seed + repeat) for noise in NOISE)
    for repeat in range(plan["seeds"]):
        for name in plan["sets"]:
            for mode in MODES:
                if mode != "winsorised" or name in WINSORISED:
                    yield from (("descent", name, noise, mode, seed + repeat) for noise in (0.25, 1.0))


# -- one training ----------------------------------------------------------------------------------


def shuffled(label: Int[Tensor, " row"], share: float, seed: int) -> Int[Tensor, " row"]:
    """Return labels of which a random share of the rows have been dealt out among themselves."""
    rng = generator(seed, "shuffled labels")
    rows = rng.permutation(len(label))[: round(share * len(label))]
    changed = label.clone()
    changed[torch.as_tensor(rows)] = label[torch.as_tensor(rng.permutation(rows))]
    return changed


def row_losses(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Float[Tensor, " row"]:
    """Return the cross entropy of each row."""
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def trained(
    root: Path, *, name: str, noise: float, mode: str, seed: int, rate: float, rows: int, batch: int, epochs: int, probe: int
) -> dict[str, Any]:  # fmt: skip
    """Train one network at a constant rate, without momentum; measure it before training and after each epoch.

    Returns:
        ``m_coherence`` and ``unbiased`` of the same ``probe`` training rows (none for 0), with the labels that are
        trained on; accuracy on these labels (``train``) and on test rows (``test``); one entry an epoch, the first
        before training.
    """
    part = sample(name, root, rows)
    label = shuffled(part.y, noise, seed)
    torch.manual_seed(seed)
    model = part.network()
    optimizer = torch.optim.SGD(model.parameters(), rate)
    descent = optimizer if mode == "sgd" else CoherentStep(optimizer, mode)
    records = [measured(model, part, label, probe)]
    order = generator(seed, "coherence batches")
    for _ in range(epochs):
        chosen = order.permutation(len(label))[: len(label) // batch * batch].reshape(-1, batch)
        for line in chosen:
            step(model, descent, part.x[line], label[line])
        records.append(measured(model, part, label, probe))
    return {key: [record[key] for record in records] for key in records[0]}


def step(model: nn.Module, descent: Any, x: Tensor, y: Int[Tensor, " row"]) -> None:
    """Make one step of plain or coherent descent on a batch."""
    descent.zero_grad()
    mode = getattr(descent, "mode", "sgd")
    if mode == "winsorised":
        descent.collect_examples(model, row_losses, (x, y))
    elif mode == "m3":
        for part in torch.arange(len(y)).chunk(3):
            (row_losses(model, (x[part], y[part])).sum() / len(y)).backward()
            descent.collect(len(part))
    else:
        row_losses(model, (x, y)).mean().backward()
    descent.step()


def measured(model: nn.Module, part: Sample, label: Int[Tensor, " row"], probe: int) -> dict[str, float]:
    """Return coherence of the first rows, and accuracies."""
    with torch.no_grad():
        train = (model(part.x).argmax(1) == label).float().mean()
        test = (model(part.test_x).argmax(1) == part.test_y).float().mean()
    found = {"train": float(train), "test": float(test)}
    if probe:
        batches = zip(part.x[:probe].split(PROBE_BATCH), label[:probe].split(PROBE_BATCH), strict=True)
        agreed = coherence(model, row_losses, batches)
        found |= {"m_coherence": agreed.m_coherence, "unbiased": agreed.unbiased}
    return found


# -- rows ------------------------------------------------------------------------------------------


def early(results: list[dict[str, Any]]) -> float:
    """Return the highest m-coherence after the first epochs, averaged over seeds; before training is left out.

    At the start all gradients share what the first weights have wrong for any row, whatever the labels are.
    """
    return float(np.mean([max(r["m_coherence"][1 : EARLY + 1]) for r in results]))


def last(results: list[dict[str, Any]], key: str) -> np.ndarray:
    """Return an accuracy at the end of each training."""
    return np.array([r[key][-1] for r in results])


def training_row(
    part: str, name: str, noise: float, mode: str, results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the line of one set, share and descent."""
    row = {
        "part": part, "data": name, "shuffled": noise, "descent": mode, "seeds": len(results),
        "train": last(results, "train").mean(), "test": last(results, "test").mean(),
    }  # fmt: skip
    if part == "descent":
        return row
    return {
        **row,
        "early_m_coherence": early(results),
        "last_m_coherence": last(results, "m_coherence").mean(),
    }


def coherence_targets(found: dict[Key, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return for each set how far real labels are above random ones in the early epochs, on the same seeds."""
    rows = []
    for name in dict.fromkeys(key[1] for key in found):
        real, random = (found[("labels", name, share, "sgd")] for share in (0.0, 1.0))
        ratio = early(real) / early(random)
        rows.append(
            {
                "part": "target: coherence", "data": name, "value": ratio, "target": FACTOR, "met": ratio > FACTOR,
                "real": early(real), "random": early(random), "seeds": len(real),
            }
        )  # fmt: skip
    return rows


def descent_targets(found: dict[Key, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return for each set and descent the paired differences to SGD: memorised random labels, and test accuracy."""
    rows = []
    for (part, name, noise, mode), results in found.items():
        if part == "labels" or mode == "sgd":
            continue
        key = "train" if noise == 1.0 else "test"
        difference = last(results, key) - last(found[(part, name, noise, "sgd")], key)
        low, high = paired(difference)
        met = high < 0 if noise == 1.0 else high >= 0
        rows.append(
            {
                "part": "target: descent", "data": name, "shuffled": noise, "descent": mode, "accuracy": key,
                "value": difference.mean(), "low": low, "high": high, "met": met, "seeds": len(results),
            }
        )  # fmt: skip
    return rows


def paired(difference: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of the mean of paired differences by Student's t; unbounded for a single one."""
    from scipy.stats import t

    if len(difference) < 2:
        return float("-inf"), float("inf")
    half = t.ppf(0.975, len(difference) - 1) * difference.std(ddof=1) / len(difference) ** 0.5
    return float(difference.mean() - half), float(difference.mean() + half)


def summary(targets: list[dict[str, Any]]) -> str:
    """Say in one sentence which targets were met."""
    above = [r for r in targets if r["part"] == "target: coherence"]
    rm3 = [r for r in targets if r.get("descent") == "rm3"]
    less = [r for r in rm3 if r["accuracy"] == "train"]
    kept = [r for r in rm3 if r["accuracy"] == "test"]
    return (
        f"Real labels reach more than {FACTOR:g} times the m-coherence of random labels on {sum(r['met'] for r in above)} of "
        f"{len(above)} sets; RM3 learns fewer random labels than SGD on {sum(r['met'] for r in less)} of {len(less)}; with "
        f"25 % shuffled labels it is not below SGD in test accuracy on {sum(r['met'] for r in kept)} of {len(kept)}."
    )
