"""How many directions linear, rank-augmented and softmax attention span, before and after training on digits.

A matrix of low rank cannot tell tokens apart. Every form of attention is the same network otherwise; it is measured
with its initial weights and again once it has learned scikit-learn's digits. Shares of the attainable maximum are
printed: means over test images of every layer, and of every stage.
"""

from typing import Any

from salience.core.progress import Stage

CARD = {
    "key": "rank",
    "kind": "benchmark",
    "title": "Rank of linear, rank-augmented and softmax attention",
    "entry": "run",
    "summary": "Numerical, effective and stable rank of the buffer of keys and values, of the attention's result and of what leaves the layer, before and after training.",
    "paper": "Fan, Huang, He: Breaking the Low-Rank Dilemma of Linear Attention (CVPR 2025)",
    "year": 2025,
    "url": "https://arxiv.org/abs/2411.07635",
    "deviates": "The published code has no rank analysis; this procedure is ours, on small images.",
    "cost": "about four minutes on two idle cores; quick: 20 seconds",
}
FORMS: dict[str, dict[str, Any]] = {
    "softmax": {"attn_per_stage": "v,v", "gate": False},
    "plain linear": {"attn_per_stage": "l,l", "alpha": False, "gate": False},
    "linear + α": {"attn_per_stage": "l,l", "gate": False},
    "linear + gate": {"attn_per_stage": "l,l", "alpha": False},
    "RALA (α + gate)": {"attn_per_stage": "l,l"},
}
NETWORK = {"depths": [2, 2]}
TEST = 297  # images held out, of 1,797
IMAGES, QUICK_IMAGES = 64, 16  # that ranks are averaged over
EPOCHS, QUICK_EPOCHS = 12, 4
QUICK_ROWS = 400
RECIPE = {"learning_rate": 3e-3, "batch_size": 16}


def run(quick: bool = False, seed: int = 0) -> dict[str, Any]:
    """Measure the ranks of five forms of attention, train them, and measure again.

    Args:
        quick: 400 training images, four epochs, 16 images measured.
        seed: seed of weights, batches and the choice of images; the same for every form.

    Returns:
        ``rows``: one a form, stage, matrix and way of centring, with shares of the attainable maximum before and after
        training, means of the stage's layers; ``layers``: every layer, with standard deviations over images;
        ``accuracy``: percent of the test images, by form; ``summary``.
    """
    from salience.models.rank_analysis import changes, stage_means

    layers: list[dict[str, Any]] = []
    accuracy: dict[str, float] = {}
    task = Digits(quick, seed)
    with Stage("rank", len(FORMS)) as stage:
        for name in FORMS:
            model = task.built(name)
            layers += [{"form": name, "moment": "before", **row} for row in task.ranks(model)]
            task.fit(model)
            layers += [{"form": name, "moment": "after", **row} for row in task.ranks(model)]
            accuracy[name] = task.accuracy(model)
            stage.step(f"{name}, {accuracy[name]:.1f} % right")
    rows = changes(stage_means(layers, by=("form", "moment")), by=("form",))
    return {"rows": rows, "layers": layers, "accuracy": accuracy, "summary": _summary(rows, accuracy)}


class Digits:
    """Hold scikit-learn's digits, and train one network at a time on them.

    Args:
        quick: fewer images and epochs.
        seed: seed of everything that is drawn.
    """

    def __init__(self, quick: bool, seed: int) -> None:
        from salience.core.stats import generator
        from salience.data.datasets import digits
        from salience.data.schema import infer

        frame = digits.load()
        order = generator(seed, "rank").permutation(len(frame))
        kept = order[TEST : TEST + QUICK_ROWS] if quick else order[TEST:]
        self.test, self.train = (frame.iloc[part].reset_index(drop=True) for part in (order[:TEST], kept))
        self.schema = infer(self.train, "digit", kinds={"digit": "category"}, source="digits")
        self.schema = self.schema.fitted(self.train)
        self.epochs = QUICK_EPOCHS if quick else EPOCHS
        self.images, self.seed = QUICK_IMAGES if quick else IMAGES, seed

    def built(self, name: str) -> Any:
        """Return the untrained model of one form of attention."""
        import torch

        from salience.models.table_model import ModelConfig, Part, TableModel

        args = {"size": 8, "preset": "mini", "norm": "batch", "changes": {**NETWORK, **FORMS[name]}}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            model = TableModel(self.schema, ModelConfig(image=Part("ravlt", args), hidden=(), dropout=0.0))
            target = self.schema.encode_target(self.train)
            model.fit_parts(self.train, target, torch.Generator().manual_seed(self.seed))
        return model

    def fit(self, model: Any) -> None:
        """Train a model; the last weights count."""
        from salience.training.loop import Trainer, TrainingConfig

        config = TrainingConfig(**RECIPE, epochs=self.epochs, patience=self.epochs)
        trainer = Trainer(model, config, seed=self.seed)
        target = self.schema.encode_target(self.train)
        trainer.fit(model.prepare(self.train), target, lambda _: {"epoch": trainer.progress.epoch}, "epoch")

    def ranks(self, model: Any) -> list[dict[str, Any]]:
        """Return the ranks of every layer, over the first test images."""
        from salience.models.rank_analysis import image_ranks

        return image_ranks(model.encoders["image_0"], self.test.iloc[: self.images])

    def accuracy(self, model: Any) -> float:
        """Return the percentage of test images that are told right."""
        found = model.outputs(self.test).argmax(1)
        return 100 * float((found == self.schema.encode_target(self.test)).mean())


def _summary(rows: list[dict[str, Any]], accuracy: dict[str, float]) -> dict[str, Any]:
    """Say for each form how ranks changed in training, and what they cannot show."""
    from salience.models.rank_analysis import CAUTION, told

    texts = {
        f"{form} ({right:.1f} % right)": told([row for row in rows if row["form"] == form])
        for form, right in accuracy.items()
    }
    measure = "effective rank, centred, share of the maximum, before → after training, stage by stage"
    return {"measure": measure, **texts, "caution": CAUTION}
