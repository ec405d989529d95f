"""Run the published DiSAN code once and store its tensors, so that the parity test needs no TensorFlow.

    git clone https://github.com/taoshen58/DiSAN
    pip install tensorflow-cpu
    python tests/parity/make_disan_fixture.py DiSAN

The published ``disan.py`` is written for TensorFlow 1. It runs unchanged under TensorFlow 2 when its import is
pointed at ``tf.compat.v1``. Every variable, also the biases that start at zero, is set to random numbers.
"""

import argparse
from pathlib import Path
from types import ModuleType

import numpy as np
import tensorflow

tf = tensorflow.compat.v1
BATCH, TOKENS, DIM, LENGTHS = 3, 7, 12, (7, 4, 1)


def load_published(checkout: Path) -> ModuleType:
    """Load ``disan.py`` of a checkout with its import of TensorFlow replaced."""
    source = (checkout / "disan.py").read_text(encoding="utf-8")
    module = ModuleType("published_disan")
    exec(source.replace("import tensorflow as tf", "from tensorflow.compat import v1 as tf"), module.__dict__)
    return module


def record(checkout: Path, seed: int) -> dict[str, np.ndarray]:
    """Return inputs, weights, output, both attentions and the gradient of the input for a random projection."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH, TOKENS, DIM)).astype(np.float32)
    mask = np.arange(TOKENS) < np.array(LENGTHS)[:, None]
    projection = rng.normal(size=(BATCH, 2 * DIM)).astype(np.float32)
    tf.disable_v2_behavior()
    with tf.Graph().as_default(), tf.Session() as session:
        tensors: dict = {}
        inputs = tf.placeholder(tf.float32, (BATCH, TOKENS, DIM))
        real = tf.placeholder(tf.bool, (BATCH, TOKENS))
        output = load_published(checkout).disan(
            inputs, real, tensor_dict=tensors, is_train=tf.constant(False)
        )
        gradient = tf.gradients(tf.reduce_sum(output * projection), inputs)[0]
        variables = {v.op.name: v for v in tf.trainable_variables()}
        # 0.6 is about 2.5 times the initial spread: logits reach into the curved part of tanh
        weights = {n: rng.normal(0, 0.6, v.shape.as_list()).astype(np.float32) for n, v in variables.items()}
        for name, variable in variables.items():
            variable.load(weights[name], session)
        wanted = {"output": output, "gradient": gradient}
        wanted |= {name.lstrip("_"): tensors[name] for name in ("_fw_attn", "_bw_attn", "_attn")}
        wanted |= {f"{side}_gate": tensors[f"_{side}_attn_gate"] for side in ("fw", "bw")}
        results = session.run(wanted, {inputs: x, real: mask})
    weights = {f"weight/{name.removeprefix('DiSAN/')}": value for name, value in weights.items()}
    return {"x": x, "mask": mask, "projection": projection, **results, **weights}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="a checkout of the published repository")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    target = Path(__file__).with_name("disan_fixture.npz")
    np.savez_compressed(target, **record(arguments.checkout, arguments.seed))


if __name__ == "__main__":
    main()
