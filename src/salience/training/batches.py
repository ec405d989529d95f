"""Batches of like length, the same for the same seed and epoch."""

from collections.abc import Sequence

import numpy as np

from salience.core.stats import generator


class Batches(Sequence[np.ndarray]):
    """Hold the batches of an epoch as two permutations, so that many rows take little memory.

    Args:
        order: rows, those of a batch together.
        batch_size: rows a batch; the last one may be smaller.
        turns: number of the batch that comes at each turn.
    """

    def __init__(self, order: np.ndarray, batch_size: int, turns: np.ndarray) -> None:
        self.order, self.batch_size, self.turns = order, batch_size, turns

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, turn: int) -> np.ndarray:
        start = int(self.turns[turn]) * self.batch_size
        return self.order[start : start + self.batch_size]


def epoch_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int, pool: int = 40) -> Batches:
    """Return the row indices of each batch of an epoch.

    Rows are shuffled, cut in pools of ``pool`` batches, sorted by length inside a pool and cut in batches;
    then the batches are shuffled. Padding is small and the order stays random.

    Args:
        lengths: tokens of each row.
        batch_size: rows a batch; the last one may be smaller.
        seed: seed of the run.
        epoch: number of the epoch.
        pool: batches sorted together.
    """
    rng = generator(seed, "batches", str(epoch))
    order = rng.permutation(len(lengths))
    for start in range(0, len(order), pool * batch_size):
        part = order[start : start + pool * batch_size]
        part[:] = part[np.argsort(lengths[part], kind="stable")]
    return Batches(order, batch_size, rng.permutation(-(-len(order) // batch_size)))


def pieces_of_process(batch: np.ndarray, parts: int, process: int, processes: int) -> list[np.ndarray]:
    """Return the parts of a batch that one process works on, one after the other.

    Every process gets the same number of parts, or they would wait for each other for ever; where rows run
    out a part is empty.

    Args:
        batch: rows of the batch.
        parts: number of parts wanted; at most one a row.
        process: number of the process, from 0.
        processes: number of processes.
    """
    most = -(-len(batch) // processes)
    return np.array_split(batch[process::processes], min(parts, most))
