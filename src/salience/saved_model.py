"""A trained table model on disk: YAML, JSON and safetensors; nothing is pickled."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from salience.core.errors import IntegrityError
from salience.core.io import atomic_write_text, read_json, write_json
from salience.core.saved import check_complete
from salience.data.schema import Schema
from salience.models.ensemble import Ensemble, make_model
from salience.models.table_model import TableModel
from salience.settings import Config, config_from_dict, config_to_dict

KIND = "model"
FILES = ("model/model.safetensors", "model/state.json", "config.yaml", "schema.json")


@dataclass(frozen=True)
class Saved:
    """Hold what a folder says."""

    config: Config
    schema: Schema
    model: TableModel | Ensemble
    source: str


def write(folder: Path, config: Config, schema: Schema, model: TableModel | Ensemble) -> Path:
    """Write the files, without the mark that they are complete."""
    (folder / "run.json").unlink(missing_ok=True)
    (folder / "model").mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config_to_dict(config), sort_keys=False, allow_unicode=True)
    atomic_write_text(folder / "config.yaml", text)
    schema.save(folder / "schema.json")
    write_json(folder / "model" / "state.json", model.state())
    temporary = folder / "model" / ".model.safetensors.tmp"
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, temporary)
    temporary.replace(folder / "model" / "model.safetensors")
    return folder


def read(folder: Path) -> Saved:
    """Read a complete folder.

    Raises:
        IntegrityError: it is absent, unfinished or damaged.
    """
    run = check_complete(folder, KIND, FILES, "salience run")
    config = config_from_dict(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    schema = Schema.load(folder / "schema.json")
    model = make_model(schema, config.model, config.seeds)
    model.restore(read_json(folder / "model" / "state.json"))
    try:
        model.load_state_dict(load_file(folder / "model" / "model.safetensors"))
    except (SafetensorError, RuntimeError) as error:
        raise IntegrityError("The weights do not fit the model", str(error)[:200], "Train again.") from None
    return Saved(config, schema, model.eval(), run.get("source", ""))
