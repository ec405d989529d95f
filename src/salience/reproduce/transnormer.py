"""Reproduction: TransNormer beside a softmax transformer of the same size, on Tiny Shakespeare and on recall."""

import hashlib
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from salience.core.errors import DataError
from salience.core.progress import Stage
from salience.core.stats import mean_interval
from salience.data.corpus import documents
from salience.data.datasets.download import cache_folder
from salience.reproduce import associative_recall as recall
from salience.reproduce.finished import once

CARD = {
    "key": "transnormer",
    "kind": "reproduction",
    "title": "TransNormer and a softmax transformer: Tiny Shakespeare, and recall at a distance",
    "entry": "run",
    "summary": "Two models of equal size, trained alike from the same text: bits a character on held-out text and seconds; then accuracy of associative recall by distance, with chance beside it.",
    "paper": "Qin et al., TransNormerLLM (arXiv 2307.14995); Various Lengths, Constant Speed (ICML 2024)",
    "year": 2024,
    "url": "https://arxiv.org/abs/2405.17381",
    "deviates": "0.95 M parameters and 2.5 M bytes of training text read in place of 44 M parameters and WikiText-103 (published test perplexity: 24.03, transformer 24.78); bytes in place of sub-words; initial weights with a spread of 0.06 in place of 0.02, and LRPE in all layers, as in the paper's best ablation, in place of the first. The last tenth of the text is tested, the twentieth before it chose the recipe, the same for both, in eight short runs of TransNormer and five of the transformer.",
    "cost": "about 40 minutes on two idle cores, resumed where it was stopped; quick: three minutes",
}
DEFAULT_DATA = Path("../shared/data")
MODELS = ("transnormer", "transformer")
CONTEXT = 256
# The published spread of initial weights, 0.02, is for wider models: at 128 features both start far more slowly from it.
# LRPE in all layers is the best form in the paper's ablation; the released models have it in the first one.
SIZES: dict[str, dict[str, Any]] = {
    "transnormer": {"init_std": 0.06, "lrpe_layers": [0, 1, 2, 3]},
    "transformer": {"init_std": 0.06},
}
TRAIN, VALIDATION = 0.85, 0.9  # ends of these parts of the text; the rest is for the test
RECIPE: dict[str, Any] = {
    "steps": 600, "evaluate_steps": 200, "batch_size": 16, "learning_rate": 6e-3, "warmup": 0.1, "weight_decay": 0.1,
    "beta2": 0.99, "floor": 0.05, "patience": 1000,
}  # fmt: skip
# so narrow a model hardly begins to learn from weights with the usual spread of 0.02
RECALL_SIZE: dict[str, Any] = {"num_layers": 2, "dim": 64, "num_heads": 2, "init_std": 0.1}
RECALL_SIZES: dict[str, dict[str, Any]] = {
    "transnormer": {**RECALL_SIZE, "glu_dim": 128},
    "transformer": {**RECALL_SIZE, "glu_dim": 149},  # as many parameters as the gate of the other one takes
}
RECALL_RECIPE: dict[str, Any] = {
    "steps": 800, "batch_size": 32, "learning_rate": 4e-3, "warmup": 0.05, "weight_decay": 0.1, "beta2": 0.95,
    "floor": 0.1,
}  # fmt: skip
FULL = {
    "seeds": 3,
    "steps": None,
    "recall_steps": None,
    "test": None,
    "distances": (0, 8, 16, 32, 64, 128, 256),
}
QUICK = {"seeds": 1, "steps": 100, "recall_steps": 250, "test": 20_000, "distances": (0, 8, 32, 128)}
BLOCK = 512  # bytes of the test text that are resampled together
TASK = recall.Task()


def run(data: Path | None = None, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Train and test both models.

    Finished trainings are kept in the cache folder (``SALIENCE_CACHE``) and not done again; one that was broken off
    goes on from its last checkpoint.

    Args:
        data: folder that holds ``tinyshakespeare/input.txt.gz``.
        quick: one seed, 100 steps, a part of the test text, fewer distances; otherwise three seeds.
        seed: first seed.

    Returns:
        ``rows`` of three parts: ``text`` (bits a character, mean over seeds, interval over blocks of the test text,
        seconds of training; both read the same windows), ``difference`` (TransNormer − transformer, paired over
        blocks), ``recall`` (accuracy by distance, interval over sequences, ``control`` is chance); a ``summary``,
        ``parameters``, and the recipes.

    Raises:
        DataError: the text is absent.
    """
    experiment = Experiment(Path(data) if data else DEFAULT_DATA, QUICK if quick else FULL)
    jobs = [(key, seed + k) for k in range(experiment.plan["seeds"]) for key in MODELS]
    texts: dict[str, list[dict[str, Any]]] = {key: [] for key in MODELS}
    recalls: dict[str, list[dict[str, Any]]] = {key: [] for key in MODELS}
    with Stage("reproduce", 2 * len(jobs)) as stage:
        for key, number in jobs:
            texts[key].append(experiment.text(key, number))
            stage.step(f"{key}, seed {number}: {total(texts[key][-1:]):.3f} bits a character")
        for key, number in jobs:
            recalls[key].append(experiment.recall(key, number))
            stage.step(f"{key}, seed {number}: recall")
    rows = [*text_rows(texts), difference_row(texts), *recall_rows(recalls)]
    return {
        "rows": rows,
        "summary": _summary(rows),
        "parameters": {key: runs[0]["parameters"] for key, runs in texts.items()},
        "recipe": experiment.recipe,
        "recall_recipe": experiment.recall_recipe,
        "gap": CARD["deviates"],
    }


class Experiment:
    """Hold the text, and train and test one model at a time.

    Args:
        root: folder that holds ``tinyshakespeare``.
        plan: seeds, steps and sizes, `QUICK` or `FULL`.
        sizes: settings of the models that differ from the preset ``tiny``, by model; `SIZES` if none.
    """

    def __init__(self, root: Path, plan: dict[str, Any], sizes: dict[str, Any] | None = None) -> None:
        self.plan, self.sizes = plan, SIZES if sizes is None else sizes
        text = read_text(root / "tinyshakespeare" / "input.txt.gz")
        first, second = int(TRAIN * len(text)), int(VALIDATION * len(text))
        self.train, self.validation = text[:first], text[first:second]
        self.test = text[second:][: plan["test"]]
        steps = {"steps": plan["steps"], "evaluate_steps": plan["steps"]} if plan["steps"] else {}
        self.recipe = {**RECIPE, **steps}
        self.recall_recipe = {**RECALL_RECIPE, "steps": plan["recall_steps"] or RECALL_RECIPE["steps"]}
        self.folder = cache_folder() / "reproduce" / "transnormer"

    def text(self, key: str, seed: int) -> dict[str, Any]:
        """Return nats of each block of the test text, bits with the state carried, seconds and parameters."""
        settings = ["text", key, seed, self.recipe, self.sizes[key], CONTEXT, hashed(self.train + self.test)]
        return once(self.folder, settings, lambda folder: self._read(key, seed, folder))

    def recall(self, key: str, seed: int) -> dict[str, Any]:
        """Return the share of right answers of each sequence, by distance."""
        settings = [
            "recall",
            key,
            seed,
            self.recall_recipe,
            RECALL_SIZES[key],
            vars(TASK),
            self.plan["distances"],
        ]
        return once(self.folder, settings, lambda folder: self._ask(key, seed, folder))

    def _read(self, key: str, seed: int, folder: Path) -> dict[str, Any]:
        from salience.language import LanguageModel
        from salience.models.language_models.score import Window, log_probabilities

        options = {"context": CONTEXT, "seed": seed, "model_args": self.sizes[key], "training": self.recipe}
        model = LanguageModel(key, preset="tiny", tokenizer="byte", **options)
        model.fit([self.train], validation=[self.validation], folder=folder)
        ids = model.tokenizer.encode_array(self.test)
        found = {}
        windows = {"nats": Window(CONTEXT, CONTEXT // 2)}
        if model.model.constant_state:
            windows["carried_nats"] = Window()
        for name, window in windows.items():
            (scores,) = log_probabilities(model.model, [ids], model.tokenizer.end_id, window)
            found[name] = -np.add.reduceat(scores.astype(np.float64), np.arange(0, len(ids), BLOCK))
        return {
            **found,
            "bytes": np.diff([*range(0, len(ids), BLOCK), len(ids)]),
            "parameters": sum(p.numel() for p in model.model.parameters()),
            "seconds": model.history.seconds,
            "validation": [record["bits_per_byte"] for record in model.history.epochs],
        }

    def _ask(self, key: str, seed: int, folder: Path) -> dict[str, Any]:
        model, history = recall.train(key, RECALL_SIZES[key], self.recall_recipe, TASK, seed, folder)
        shares = {
            str(distance): recall.accuracy(model, TASK, distance, seed) for distance in self.plan["distances"]
        }
        return {"shares": shares, "loss": history.epochs[-1]["loss"], "seconds": history.seconds}


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        DataError: the file is absent.
    """
    if not path.exists():
        raise DataError(
            "The text of the experiment is not there",
            str(path),
            "Give its folder with --data.",
            code="SAL-D001",
        )
    return next(documents(path)).text


def hashed(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def bits(runs: list[dict[str, Any]], name: str = "nats") -> np.ndarray:
    """Return bits a byte of each block of the test text, the mean over trainings."""
    nats = np.mean([run[name] for run in runs], axis=0)
    return nats / np.log(2) / np.asarray(runs[0]["bytes"])


def total(runs: list[dict[str, Any]], name: str = "nats") -> float:
    """Return bits a byte of the whole test text, the mean over trainings."""
    return float(np.average(bits(runs, name), weights=runs[0]["bytes"]))


def text_rows(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return bits a character of each model, the mean over seeds with an interval over blocks of text.

    Both models read the same windows. One with a state of constant size also reads on from the start of the text.
    """
    rows = [_text_row("text", key, runs, "nats") for key, runs in results.items()]
    for row, runs in zip(rows, results.values(), strict=True):
        row["seconds"] = round(statistics.fmean(run["seconds"] for run in runs), 1)
    carried = {key: runs for key, runs in results.items() if "carried_nats" in runs[0]}
    return rows + [
        _text_row("text, state carried", key, runs, "carried_nats") for key, runs in carried.items()
    ]


def _text_row(part: str, key: str, runs: list[dict[str, Any]], nats: str) -> dict[str, Any]:
    low, high = mean_interval(bits(runs, nats))
    each = " ".join(f"{total([run], nats):.3f}" for run in runs)
    value = {"part": part, "name": key, "value": total(runs, nats), "low": low, "high": high}
    return {**value, "unit": "bits/character", "each": each}


def difference_row(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return how many bits a character TransNormer needs more, paired over blocks, over all seeds."""
    more = bits(results["transnormer"]) - bits(results["transformer"])
    low, high = mean_interval(more)
    each = zip(results["transnormer"], results["transformer"], strict=True)
    return {
        "part": "difference",
        "name": "transnormer − transformer",
        "value": total(results["transnormer"]) - total(results["transformer"]),
        "low": low,
        "high": high,
        "unit": "bits/character",
        "each": " ".join(f"{total([a]) - total([b]):+.3f}" for a, b in each),
    }


def recall_rows(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one record a model and distance: the share of right answers, with an interval over sequences."""
    rows = []
    for key, runs in results.items():
        for distance in runs[0]["shares"]:
            shares = np.array([run["shares"][distance] for run in runs])
            low, high = mean_interval(shares.mean(axis=0))
            rows.append(
                {
                    "part": "recall" if int(distance) <= TASK.distance else "recall, farther than trained",
                    "name": key,
                    "distance": int(distance),
                    "value": float(shares.mean()),
                    "low": low,
                    "high": high,
                    "unit": "accuracy",
                    "control": recall.CHANCE,
                    "each": " ".join(f"{share:.2f}" for share in shares.mean(axis=1)),
                    "seconds": round(statistics.fmean(run["seconds"] for run in runs), 1),
                }
            )
    return rows


def _summary(rows: list[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for row in rows:
        if row["part"] == "text":
            found[row["name"]] = (
                f"{row['value']:.3f} bits a character ({row['low']:.3f} to {row['high']:.3f}), {row['seconds']:.0f} s"
            )
        if row["part"] == "difference":
            found["difference"] = (
                f"{row['value']:+.3f} bits a character ({row['low']:+.3f} to {row['high']:+.3f})"
            )
    for name in MODELS:
        shares = [
            f"{r['value']:.2f} at {r['distance']}"
            for r in rows
            if r["part"].startswith("recall") and r["name"] == name
        ]
        found[f"recall, {name}"] = ", ".join(shares) + f"; chance {recall.CHANCE:.2f}"
    return found
