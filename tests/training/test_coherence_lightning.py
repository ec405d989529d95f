"""The callback for Lightning."""

import pytest
import torch
from torch import nn

from salience.training.coherence.lightning import coherence_callback


@pytest.mark.filterwarnings("ignore")
def test_callback_measures_epochs_and_mini_batches(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def losses(self, batch):
            return nn.functional.cross_entropy(self.layer(batch[0]), batch[1], reduction="none")

        def training_step(self, batch, index):
            return self.losses(batch).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    torch.manual_seed(0)
    rows = torch.utils.data.TensorDataset(torch.randn(32, 4), torch.randint(0, 2, (32,)))
    loader = torch.utils.data.DataLoader(rows, batch_size=8)
    callback = coherence_callback(lambda module, batch: module.losses(batch), list(loader))
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Module(), loader)
    frame = callback.history.to_frame()
    assert list(frame["epoch"]) == [0, 1] and frame["m_coherence"].notna().all()
    assert trainer.callback_metrics["m_coherence"] == pytest.approx(frame["m_coherence"].iloc[-1])
    assert callback.law.steps == 8 and float(trainer.callback_metrics["coherence"]) == pytest.approx(
        callback.law.alpha
    )
