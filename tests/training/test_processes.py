"""Two processes on the CPU give what one process gives; started once for all tests here."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_model import CostlyModel, SmallModel, train
from two_processes import BATCHES, TRAINING, gradients

from salience import Predictor
from salience.core.processes import is_main_process
from salience.training.loop import CHECKPOINT


@pytest.fixture(scope="module")
def out(tmp_path_factory, warm):
    out = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("two_processes.py")
    command = [
        warm.python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python",
        warm.python, script, out,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def tensors(out):
    return [load_file(out / f"{rank}.safetensors") for rank in (0, 1)]


@pytest.fixture(scope="module")
def facts(out):
    return [json.loads((out / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("batch", BATCHES)
def test_averaged_gradients_are_those_of_one_process(tensors, batch, parts):
    for name, expected in gradients(BATCHES[batch], 1).items():
        for rank in (0, 1):
            found = tensors[rank][f"gradient/{batch}/{parts}/{name}"]
            torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_what_a_model_adds_to_the_loss_has_the_gradient_of_one_process(tensors):
    for name, expected in gradients(7, 1, CostlyModel).items():
        for rank in (0, 1):
            torch.testing.assert_close(tensors[rank][f"costly/{name}"], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_trained_weights_agree_between_processes_and_with_one(tensors, facts, sharding):
    model, history = train(SmallModel(), **TRAINING)
    for name, expected in model.state_dict().items():
        first, second = (tensors[rank][f"weights/{sharding}/{name}"] for rank in (0, 1))
        assert torch.equal(first, second)
        torch.testing.assert_close(first, expected, atol=2e-5, rtol=0)
    assert facts[0][sharding] == facts[1][sharding]
    assert facts[0][sharding]["log_loss"] == pytest.approx([e["log_loss"] for e in history.epochs], abs=1e-5)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_resumed_weights_are_equal_bit_for_bit(facts, sharding):
    assert [f[f"{sharding} resumed"] for f in facts] == [True, True]


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_checkpoint_holds_whole_tensors_and_every_process_random_numbers(out, sharding):
    shapes = {name: tuple(t.shape) for name, t in SmallModel().state_dict().items()}
    with safe_open(out / sharding / CHECKPOINT, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for group in ("model", "best"):
        assert {
            n.removeprefix(f"{group}/"): s for n, s in found.items() if n.startswith(f"{group}/")
        } == shapes
    assert found["optimizer/0/exp_avg"] == shapes["layers.0.weight"]
    assert {"random/0/cpu", "random/1/cpu"} <= set(found)


def test_fsdp_keeps_half_of_the_parameters_in_each_process(facts):
    assert sum(f["share"] for f in facts) == pytest.approx(1.0)
    assert all(0.3 < f["share"] < 0.7 for f in facts)


def test_processes_agree_when_only_one_runs_out_of_time(tensors):
    names = [name for name in tensors[0] if name.startswith("weights/limited/")]
    assert names
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in names)


def test_only_the_main_process_writes(facts):
    assert facts[0]["writes"] > 10
    assert facts[1]["writes"] == 0


def test_other_processes_save_no_predictor(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not is_main_process()
    assert Predictor("y").save(tmp_path / "run") == tmp_path / "run"
    assert not (tmp_path / "run").exists()
    monkeypatch.setenv("RANK", "0")
    assert is_main_process()
