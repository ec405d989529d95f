"""Batches of like length, the same for the same seed and epoch."""

import numpy as np

from salience.core.stats import generator


def epoch_batches(
    lengths: np.ndarray, batch_size: int, seed: int, epoch: int, pool: int = 40
) -> list[np.ndarray]:
    """Return the row indices of each batch of an epoch.

    Rows are shuffled, cut in pools of ``pool`` batches, sorted by length inside a pool and cut in batches;
    then the batches are shuffled. Padding is small and the order stays random.

    Args:
        lengths: tokens of each row.
        batch_size: rows a batch; the last one of a pool may be smaller.
        seed: seed of the run.
        epoch: number of the epoch.
        pool: batches sorted together.
    """
    rng = generator(seed, "batches", str(epoch))
    order = rng.permutation(len(lengths))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool * batch_size):
        part = order[start : start + pool * batch_size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def share_of_process(batch: np.ndarray, process: int, processes: int) -> np.ndarray:
    """Return the rows of a batch that one process works on."""
    return batch[process::processes]
