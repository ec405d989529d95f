"""What every head must do, on random row vectors and targets that depend on them."""

from collections.abc import Callable

import torch
from torch import Tensor

from salience.core.registry import Card
from salience.models.slots import Head
from salience.testing.tensors import (
    assert_close,
    assert_equal,
    assert_every_parameter_learns,
    assert_finite,
    seeded,
    weighted_sum,
)

Build = Callable[..., Head]
ROWS, DIM = 24, 5


def example_rows(n_outputs: int, task: str) -> tuple[Tensor, Tensor]:
    """Return row vectors, and class indices, labels or numbers (mean about 100) that follow from them."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(ROWS, DIM, generator=generator)
    answers = vectors @ torch.randn(DIM, n_outputs, generator=generator)
    numbers = 100 + 7 * answers.double()
    targets = {
        "classification": answers.argmax(1),
        "regression": numbers[:, 0],
        "multi-label": (answers > 0).long(),
        "multi-regression": numbers * torch.arange(1, n_outputs + 1),
    }
    return vectors, targets[task]


def build(card: Card, entry: Build, *, seed: int = 0) -> Head:
    """Return a head with the tiny arguments of its card, in evaluation mode."""
    with seeded(seed):
        head = entry(DIM, **(card.get("tiny") or {})).eval()
    if hasattr(head, "fit_target"):
        head.fit_target(_example(card, head)[1].numpy())
    return head


def _outputs(card: Card) -> int:
    return int((card.get("tiny") or {}).get("n_outputs", 1))


def _example(card: Card, head: Head) -> tuple[Tensor, Tensor]:
    return example_rows(_outputs(card), head.task)


def check_shapes_are_as_promised(card: Card, entry: Build) -> None:
    """Require one finite output a class or target, before and after ``finish``, and a loss that is a number."""
    head = build(card, entry)
    vectors, target = _example(card, head)
    output = head(vectors)
    wanted = (ROWS, _outputs(card))
    assert tuple(output.shape) == wanted, f"outputs have shape {tuple(output.shape)}, want {wanted}"
    assert tuple(head.finish(output).shape) == wanted, "finish changes the shape"
    assert head.loss(output, target).ndim == 0, "the loss must be one number"
    assert_finite(head.finish(output), "outputs")
    assert_finite(head.loss(output, target), "loss")


def check_task_is_named_on_the_card(card: Card, entry: Build) -> None:
    """Require that class and card name the same task."""
    task = build(card, entry).task
    assert task in (card.get("tasks") or []), f"the class serves {task!r}, the card {card.get('tasks')}"


def check_every_parameter_gets_a_finite_gradient(card: Card, entry: Build) -> None:
    """Require that the loss reaches every parameter."""

    def loss(head: Head) -> Tensor:
        vectors, target = _example(card, head)
        output = head(vectors)
        return head.loss(output, target) + 0 * weighted_sum(output)

    assert_every_parameter_learns(lambda seed: build(card, entry, seed=seed), loss)


def check_training_lowers_the_loss(card: Card, entry: Build) -> None:
    """Require that a hundred steps of Adam halve the loss on rows that can be learned."""
    head = build(card, entry)
    vectors, target = _example(card, head)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    before = float(head.loss(head(vectors), target).detach())
    for _ in range(100):
        optimizer.zero_grad()
        head.loss(head(vectors), target).backward()
        optimizer.step()
    after = float(head.loss(head(vectors), target).detach())
    assert after < before / 2, f"the loss went from {before:.3f} to {after:.3f} in 100 steps"


def check_rows_are_independent(card: Card, entry: Build) -> None:
    """Require that a batch of one equals the same row in a batch."""
    head = build(card, entry)
    vectors, _ = _example(card, head)
    with torch.no_grad():
        together = head.finish(head(vectors))
        for i in range(ROWS):
            assert_close(together[i], head.finish(head(vectors[i : i + 1]))[0], f"row {i} in a batch")


def check_saved_and_restored_is_equal(card: Card, entry: Build) -> None:
    """Require that its tensors alone rebuild it, with what was fitted."""
    first = build(card, entry)
    with seeded(1):
        second = entry(DIM, **(card.get("tiny") or {})).eval()
    second.load_state_dict(first.state_dict())
    vectors, _ = _example(card, first)
    with torch.no_grad():
        found, wanted = second.finish(second(vectors)), first.finish(first(vectors))
    assert_equal(found, wanted, "outputs of the restored head")


def check_bfloat16_is_finite(card: Card, entry: Build) -> None:
    """Require that mixed precision runs and gives a finite loss."""
    head = build(card, entry)
    vectors, target = _example(card, head)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = head(vectors)
        assert_finite(head.finish(output), "bfloat16")
        assert_finite(head.loss(output, target), "loss in bfloat16")


CHECKS = (
    check_shapes_are_as_promised,
    check_task_is_named_on_the_card,
    check_every_parameter_gets_a_finite_gradient,
    check_training_lowers_the_loss,
    check_rows_are_independent,
    check_saved_and_restored_is_equal,
    check_bfloat16_is_finite,
)
