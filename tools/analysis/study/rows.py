"""What is trained: each row of the ablation as the options by which it differs."""

from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

import numpy as np
from mmengine.config import ConfigDict

FULL = 'full'
CODE = 'code'

# what switches a part of the method off
OFF: Dict[str, Dict[str, Any]] = dict(
    ptc={'model.losses.ptc.loss_weight': 0.0},
    gcr={'model.graph': None},
    cre={'model.losses.cre.loss_weight': 0.0},
    ure={'model.losses.ure.loss_weight': 0.0},
)
# row -> parts that it does without
LEFT_OUT = {
    'baseline': ('ptc', 'gcr', 'cre', 'ure'),
    'add-ptc': ('gcr', 'cre', 'ure'),
    'add-gcr': ('cre', 'ure'),
    'without-ure': ('ure',),  # and what comes of adding CRE to add-gcr
    FULL: (),
    'without-cre': ('cre',),
    'without-gcr': ('gcr',),
    'without-ptc': ('ptc',),
}
LABELS = {
    'baseline': 'baseline: class tokens alone',
    'add-ptc': '+ PTC',
    'add-gcr': '+ PTC, GCR',
    'without-ure': '+ PTC, GCR, CRE (without URE)',
    FULL: 'full: + PTC, GCR, CRE, URE',
    'without-cre': 'without CRE',
    'without-gcr': 'without GCR',
    'without-ptc': 'without PTC',
}
IN_TURN = ('baseline', 'add-ptc', 'add-gcr', 'without-ure', FULL)
"""One part after the other."""

GCR_LABELS = {
    CODE: "GCR as in the authors' code",
    'patches': 'GCR with neighbours among patches',
    'dot': 'GCR with eq. 4, the dot product',
    'paper': 'GCR with both, as the paper describes it',
}
PAPER_SHARE = 0.5
"""392 of the 784 patches of 448 x 448 pixels."""


class Row(NamedTuple):
    """A training, but for its seed."""

    label: str
    """For the reader."""
    base: str
    """The row of ``LEFT_OUT``."""
    gcr: str
    """The form of GCR, a key of ``GCR_LABELS``; ``CODE`` where there is no GCR."""
    options: Dict[str, Any]
    """Options of the config, with dots in their keys."""


def make_rows(num_patches: int) -> Dict[str, Row]:
    """All rows by name, in order; without GCR there is one of a kind.

    Args:
        num_patches: Patches of a training crop, half of which are the paper's neighbours.
    """
    patches = {
        'model.graph.num_neighbors': max(1, int(PAPER_SHARE * num_patches)),
        'model.graph.tail': 'patches',
    }
    dot = {'model.graph.weighting': 'dot'}
    forms = {CODE: {}, 'patches': patches, 'dot': dot, 'paper': {**patches, **dot}}
    rows = {}
    for gcr, form in forms.items():
        for base, left_out in LEFT_OUT.items():
            if gcr != CODE and 'gcr' in left_out:
                continue
            options = dict(form)
            for part in left_out:
                options.update(OFF[part])
            rows[row_name(base, gcr)] = Row(LABELS[base], base, gcr, options)
    return rows


def row_name(base: str, gcr: str) -> str:
    """Name of a row of ``LEFT_OUT`` with a form of GCR."""
    return base if gcr == CODE or 'gcr' in LEFT_OUT[base] else f'{base}-{gcr}'


def select(rows: Mapping[str, Row], names: Sequence[str]) -> List[str]:
    """Names of rows for names of rows and groups, in the order of ``rows``.

    Args:
        rows: All rows.
        names: Rows, or groups: 'all' and the keys of ``GCR_LABELS``.

    Raises:
        ValueError: If a name is unknown.
    """
    unknown = sorted(set(names) - {*rows, *GCR_LABELS, 'all'})
    if unknown:
        raise ValueError(
            f'unknown rows {", ".join(unknown)}: choose from the groups all, '
            f'{", ".join(GCR_LABELS)} and the rows {", ".join(rows)}'
        )
    return [
        name for name, row in rows.items() if 'all' in names or {name, row.gcr} & {*names}
    ]


def count_patches(model: ConfigDict) -> int:
    """Patches of a training crop of a MoRe.

    Raises:
        ValueError: If the config does not say the sizes.
    """
    try:
        size = model.data_preprocessor['size']
        return int(np.prod([side // model.backbone['patch_size'] for side in size]))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            'the ablation is one of MoRe: the config needs model.data_preprocessor.size '
            'and model.backbone.patch_size'
        ) from error
