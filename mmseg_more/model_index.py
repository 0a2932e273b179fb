"""The shipped models by their names in model-index.yml, wherever a model can be named.

``tools/train.py more_vit-b_voc``, ``MoReInferencer('more_vit-b_voc', weights=...)`` and
``MMSegInferencer('more_vit-b_voc', weights=...)`` take such a name for the config's path.
"""

from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from mmengine.fileio import load
from mmengine.infer import BaseInferencer
from mmengine.runner import CheckpointLoader

_PACKAGE = Path(__file__).resolve().parent
UNPUBLISHED = 'unpublished://'
"""The address of weights in the index, where there are none to download."""


def index_folder() -> Path:
    """The folder of model-index.yml, configs and tools: of the installation or checkout."""
    installed = _PACKAGE / '.mim'
    return installed if (installed / 'model-index.yml').is_file() else _PACKAGE.parent


def shipped_models() -> Dict[str, Path]:
    """Config files by the name of the model."""
    folder = index_folder()
    return {entry['Name']: folder / entry['Config'] for entry in _entries(folder)}


def shipped_config(name: str) -> Optional[Path]:
    """Config file of the model of that name, with or without .py; None: unknown."""
    return shipped_models().get(name.removesuffix('.py'))


def _entries(folder: Path) -> Iterator[Dict[str, Any]]:
    for part in load(folder / 'model-index.yml')['Import']:
        yield from load(folder / part)['Models']


def add_to_inferencers() -> None:
    """Let MMSegmentation's inferencers know the names as well, behind their own ones."""
    list_models = BaseInferencer._get_models_from_metafile
    if getattr(list_models, 'knows_mmseg_more', False):
        return

    def list_more_models(dir: str) -> Iterator[Dict[str, Any]]:
        yield from list_models(dir)
        if dir == BaseInferencer._get_repo_or_mim_dir('mmseg'):
            folder = index_folder()
            for entry in _entries(folder):
                yield {**entry, 'Config': str(folder / entry['Config'])}

    list_more_models.knows_mmseg_more = True  # type: ignore[attr-defined]
    BaseInferencer._get_models_from_metafile = staticmethod(list_more_models)


@CheckpointLoader.register_scheme(prefixes=UNPUBLISHED, force=True)
def refuse_unpublished(filename: str, *args: Any, **kwargs: Any) -> None:
    """Stand for the download of weights that nobody offers.

    Raises:
        ValueError: Always; it says where weights come from.
    """
    raise ValueError(
        'no weights of this model are published: train it (tools/train.py), or convert the '
        "authors' checkpoint (tools/model_converters/official2mmseg.py), and give the file "
        'as weights=FILE'
    )
