"""Reproduction: rank-augmented linear attention beside plain linear and softmax attention on a CIFAR-10 subset."""

import statistics
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from salience.core.errors import DataError
from salience.core.progress import Stage
from salience.core.stats import generator, mean_interval
from salience.data.datasets.download import cache_folder
from salience.data.schema import infer
from salience.reproduce.finished import once

CARD = {
    "key": "ravlt",
    "kind": "reproduction",
    "title": "RALA, plain linear and softmax attention on CIFAR-10 images",
    "entry": "run",
    "summary": "One small network, trained alike with each attention at equal parameters: accuracy, images a second at 32 to 512 pixels, and rank before and after training; RALA also without α and without gate.",
    "paper": "Fan, Huang, He: Breaking the Low-Rank Dilemma of Linear Attention (CVPR 2025)",
    "year": 2025,
    "url": "https://arxiv.org/abs/2411.07635",
    "deviates": "10,000 training and 2,000 test images of 32 pixels in place of ImageNet; 0.4 M parameters, linear (or softmax) in all stages; five epochs. Forms without gate have a wider feed-forward part instead, so that all have the same number of parameters.",
    "cost": "about 40 minutes on two idle cores, resumed where it was stopped; quick: three minutes",
}
DEFAULT_DATA = Path("../shared/data")
NETWORK: dict[str, Any] = {
    "dims": [32, 64, 128], "depths": [1, 1, 1], "heads": [1, 2, 4], "layer_scale": [1.0, 1.0, 1.0],
    "projection": 256, "stem_stride": 2,
}  # fmt: skip
WIDER = {"gate": False, "ffn_ratio": 3.96}  # the gate's parameters, spent on the feed-forward part
VARIANTS: dict[str, dict[str, Any]] = {
    "RALA": {"attn_per_stage": "l,l,l"},
    "plain linear": {"attn_per_stage": "l,l,l", "alpha": False, **WIDER},
    "softmax": {"attn_per_stage": "v,v,v"},
    "RALA without α": {"attn_per_stage": "l,l,l", "alpha": False},
    "RALA without gate": {"attn_per_stage": "l,l,l", **WIDER},
}
MAIN = ("RALA", "plain linear", "softmax")
SEEDS = 3
RECIPE = {"epochs": 5, "batch_size": 64, "learning_rate": 2e-3, "weight_decay": 0.05, "warmup": 0.1}
AUGMENTATION = {"shift": 0.125, "flip": True}
QUICK = {"epochs": 4, "rows": 1500, "variants": MAIN, "seeds": 1, "sizes": (32, 64, 128), "rank_images": 8}
FULL = {"epochs": None, "rows": None, "variants": tuple(VARIANTS), "seeds": SEEDS, "sizes": (32, 64, 128, 256, 512), "rank_images": 32}  # fmt: skip
PIXELS = 64 * 32 * 32  # of a batch whose speed is measured
PATIENCE = 20.0  # seconds that measuring one speed may take after its first batch
# top-1 on ImageNet: RAVLT-T as published by its authors; its ablations as a second-hand summary gives them
PUBLISHED = {"RALA": 82.8, "RALA without α": 82.1, "RALA without gate": 82.5, "plain linear": 81.4}


def run(data: Path | None = None, quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Train and test every form of attention, measure speed and rank.

    Finished trainings are kept in the cache folder (``SALIENCE_CACHE``) and not done again; a training that was broken
    off goes on from its last checkpoint.

    Args:
        data: folder that holds ``cifar10`` with the two archives of images.
        quick: three forms, one seed, 1,500 images, four epochs, sizes to 128 pixels.
        seed: first seed; RALA, plain linear and softmax get three, the ablations one.

    Returns:
        ``rows``: ``accuracy`` (percent of the test images, mean over seeds, bootstrap interval over images) and
        ``difference`` (percentage points, paired over images); ``speed``: images a second, forward, and multiply-adds
        an image; ``rank``: shares of the attainable maximum, means of a stage, before and after training; ``summary``.

    Raises:
        DataError: an archive is absent.
    """
    plan = QUICK if quick else FULL
    experiment = Experiment(Path(data) if data else DEFAULT_DATA, plan, seed)
    jobs = [(name, seed + number) for number in range(plan["seeds"]) for name in MAIN]
    jobs += [(name, seed) for name in plan["variants"] if name not in MAIN]
    results: dict[str, list[dict[str, Any]]] = {}
    with Stage("reproduce", len(jobs) + 1) as stage:
        speeds = list(speed_rows(plan["sizes"], seed))
        stage.step("speed")
        for name, number in jobs:
            results.setdefault(name, []).append(experiment.result(name, number))
            stage.step(f"{name}, seed {number}: {results[name][-1]['accuracy']:.2f} %")
    rows, ranks = [*accuracy_rows(results), *difference_rows(results)], rank_rows(results)
    return {
        "rows": rows,
        "speed": speeds,
        "rank": ranks,
        "summary": _summary(rows, speeds, ranks),
        "recipe": experiment.recipe,
        "gap": CARD["deviates"],
    }


class Experiment:
    """Hold the images, and train and test one form of attention at a time.

    Args:
        root: folder that holds ``cifar10``.
        plan: number of epochs and images, `QUICK` or `FULL`.
        seed: seed of the choice of images.
    """

    def __init__(self, root: Path, plan: dict[str, Any], seed: int) -> None:
        self.train = read_images(root / "cifar10" / "cifar10_train10k.zip")
        self.test = read_images(root / "cifar10" / "cifar10_test2k.zip")
        if plan["rows"]:
            chosen = generator(seed, "rows").permutation(len(self.train))[: plan["rows"]]
            self.train = self.train.iloc[np.sort(chosen)].reset_index(drop=True)
        self.rank_images = plan["rank_images"]
        self.recipe = {**RECIPE, "epochs": plan["epochs"] or RECIPE["epochs"]}
        self.folder = cache_folder() / "reproduce" / "ravlt"
        self.examples: list[Any] = []

    def result(self, name: str, seed: int) -> dict[str, Any]:
        """Return accuracy, hits and ranks of one training, from the cache where it was done before."""
        settings = [
            name,
            seed,
            NETWORK,
            VARIANTS[name],
            self.recipe,
            AUGMENTATION,
            len(self.train),
            len(self.test),
        ]
        return once(self.folder, settings, lambda folder: self.trained(name, seed, folder))

    def trained(self, name: str, seed: int, folder: Path | None = None) -> dict[str, Any]:
        """Train one form of attention and measure it.

        Args:
            name: one of `VARIANTS`.
            seed: seed of weights, batches and augmentation.
            folder: where checkpoints go; none for none.
        """
        from salience.training.loop import Trainer, TrainingConfig

        started = time.perf_counter()
        model, target = self._built(name, seed)
        network = model.encoders["image_0"].network
        before = self._ranks(model)
        config = TrainingConfig(**self.recipe, patience=self.recipe["epochs"])
        trainer = Trainer(model, config, seed=seed, folder=folder)
        # the last weights count: each epoch scores higher than the one before, and no image is held out to choose
        trainer.fit(self.examples, target, lambda _: {"epoch": float(trainer.progress.epoch)}, "epoch")
        hits = self._hits(model)
        return {
            "accuracy": 100 * float(hits.mean()),
            "hits": "".join(map(str, hits)),
            "parameters": sum(p.numel() for p in network.parameters()),
            "seconds": round(time.perf_counter() - started, 1),
            "before": before,
            "after": self._ranks(model),
        }

    def _built(self, name: str, seed: int) -> tuple[Any, np.ndarray]:
        import torch

        from salience.models.table_model import ModelConfig, Part, TableModel

        schema = infer(self.train, "label", source="cifar10").fitted(self.train)
        target = schema.encode_target(self.train)
        args = {"size": 32, "norm": "batch", **AUGMENTATION, "changes": {**NETWORK, **VARIANTS[name]}}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = TableModel(schema, ModelConfig(image=Part("ravlt", args), hidden=(), dropout=0.0))
            model.fit_parts(self.train, target, torch.Generator().manual_seed(seed))
        self.examples = self.examples or model.prepare(self.train)  # decoded once for all trainings
        return model, target

    def _hits(self, model: Any) -> np.ndarray:
        parts = [self.test.iloc[start : start + 250] for start in range(0, len(self.test), 250)]
        found = np.concatenate([model.outputs(part).argmax(1) for part in parts])
        return (found == model.schema.encode_target(self.test)).astype(int)

    def _ranks(self, model: Any) -> list[dict[str, Any]]:
        from salience.models.rank_analysis import image_ranks, stage_means

        shown = generator(0, "rank").permutation(len(self.test))[: self.rank_images]
        return stage_means(image_ranks(model.encoders["image_0"], self.test.iloc[shown]), by=())


def read_images(path: Path) -> pd.DataFrame:
    """Return the pictures of an archive, as bytes, and their labels: the name of the folder they lie in.

    Raises:
        DataError: the archive is absent.
    """
    if not path.exists():
        raise DataError(
            "The images of the experiment are not there", str(path), "Give their folder with --data."
        )
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        cells = [archive.read(name) for name in names]
    return pd.DataFrame(
        {"photo": pd.Series(cells, dtype=object), "label": [name.split("/")[-2] for name in names]}
    )


def accuracy_rows(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one record a form of attention: mean accuracy over seeds with an interval over images."""
    rows = []
    for name, runs in results.items():
        low, high = mean_interval(100 * _hits_of(runs))
        each = [run["accuracy"] for run in runs]
        rows.append(
            {
                "part": "accuracy",
                "name": name,
                "value": statistics.fmean(each),
                "low": low,
                "high": high,
                "unit": "%",
                "each": " ".join(f"{value:.2f}" for value in each),
                "parameters": runs[0]["parameters"],
                "seconds": statistics.fmean(run["seconds"] for run in runs),
                "published_imagenet": PUBLISHED.get(name),
            }
        )
    return rows


def difference_rows(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return RALA's lead over every other form, over the seeds that both have, paired over images."""
    rows = []
    for name, runs in results.items():
        if name == "RALA":
            continue
        lead = 100 * (_hits_of(results["RALA"][: len(runs)]) - _hits_of(runs))
        low, high = mean_interval(lead)
        named = {"part": "difference", "name": f"RALA − {name}", "value": float(lead.mean())}
        rows.append({**named, "low": low, "high": high, "unit": "points"})
    return rows


def _hits_of(runs: list[dict[str, Any]]) -> np.ndarray:
    """Return for each test image the share of seeds that got it right."""
    return np.mean([[int(hit) for hit in run["hits"]] for run in runs], axis=0)


def speed_rows(sizes: tuple[int, ...], seed: int) -> Iterator[dict[str, Any]]:
    """Measure, in turns, how many images a second each form classifies, and count its multiply-adds."""
    import torch

    from salience.models.ravlt import RAVLT, flops, preset

    configs = {name: preset("small", classes=10, **NETWORK, **VARIANTS[name]) for name in MAIN}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = {name: RAVLT(config).eval() for name, config in configs.items()}
    for size in sizes:
        batch = max(1, PIXELS // size**2)
        image = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))
        seconds = _timed({name: lambda n=network, x=image: n(x) for name, network in networks.items()})
        for name, taken in seconds.items():
            counts = flops(configs[name], size)
            yield {
                "part": "speed",
                "name": name,
                "value": batch / statistics.median(taken),
                "unit": "images/s",
                "size": size,
                "batch": batch,
                "threads": torch.get_num_threads(),
                "multiply_adds": counts["total"],
                "of_attention": counts["attention"],
            }


def _timed(steps: dict[str, Callable[[], Any]], repeats: int = 5) -> dict[str, list[float]]:
    """Time the steps in turns; after a first turn that counts only where a further one would take too long."""
    import torch

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    with torch.inference_mode():
        for turn in range(repeats + 1):
            for name, step in steps.items():
                if turn and sum(seconds[name]) * (1 + 1 / turn) > PATIENCE:
                    continue
                start = time.perf_counter()
                step()
                seconds[name].append(time.perf_counter() - start)
    return {name: taken[1:] or taken for name, taken in seconds.items()}


def rank_rows(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the ranks of each form's first seed, as shares of the attainable maximum."""
    from salience.models.rank_analysis import changes

    return [
        row
        for name, runs in results.items()
        for row in changes(
            [
                {"name": name, "moment": moment, **r}
                for moment in ("before", "after")
                for r in runs[0][moment]
            ],
            by=("name",),
        )
    ]


def _summary(
    rows: list[dict[str, Any]], speeds: list[dict[str, Any]], ranks: list[dict[str, Any]]
) -> dict[str, Any]:
    from salience.models.rank_analysis import CAUTION, told

    found: dict[str, Any] = {
        row["name"]: f"{row['value']:.2f} {row['unit']} ({row['low']:.2f} to {row['high']:.2f})"
        for row in rows
    }
    for name in MAIN:
        mine = [f"{r['value']:.4g} at {r['size']}" for r in speeds if r["name"] == name]
        found[f"images a second, {name}"] = ", ".join(mine) + " pixels"
    texts = {
        name: told([r for r in ranks if r["name"] == name])
        for name in dict.fromkeys(r["name"] for r in ranks)
    }
    return {**found, **{f"effective rank, {name}": text for name, text in texts.items()}, "on rank": CAUTION}
