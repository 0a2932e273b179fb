"""Figures as they are written."""

import json
import math

from mmseg_more.evaluation.report import write_json


def test_nan_is_null_however_deep(tmp_path):
    nan, path = math.nan, tmp_path / 'sub' / 'figures.json'
    write_json(
        str(path), {'a': nan, 'b': {'cam': {'c': nan, 'd': 1}}, 'e': [nan, (2.5, nan)]}
    )
    assert json.loads(path.read_text()) == {
        'a': None,
        'b': {'cam': {'c': None, 'd': 1}},
        'e': [None, [2.5, None]],
    }
