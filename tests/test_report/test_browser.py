"""The page's script in a browser; skipped where there is no Chromium."""

import html
import json
import re
import shutil
import subprocess

import pytest
import torch

from report_samples import make_page, make_seen

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason='needs chromium (apt install chromium)'),
]
HELPERS = """
const names = () => [...document.querySelectorAll('.card:not([hidden]) h3')]
  .map((head) => head.textContent);
const press = (key) => document.activeElement.dispatchEvent(
  new KeyboardEvent('keydown', { key, bubbles: true }));
const choose = (id, value) => {
  document.getElementById(id).value = value;
  document.getElementById(id).dispatchEvent(new Event('change'));
};
const now = () => document.querySelector('.card.current h3, .card:focus h3')?.textContent;
const shown = () => large.open ? document.querySelector('#shown h3').textContent : null;
const rows = () => [...document.querySelectorAll('.sortable tbody th')]
  .map((head) => head.textContent);
const steps = [];
"""


@pytest.fixture
def run(tmp_path):
    """What steps of JavaScript find in the page; each is an expression, or ends in one."""

    def run(page, *steps, width=1280):
        script = HELPERS + ''.join(f'steps.push({step});\n' for step in steps)
        script += "top.document.title = 'done ' + JSON.stringify(steps);"
        path = tmp_path / 'page.html'
        inner = page.replace('</body>', f'<script>{script}</script></body>')
        # a window of its own could not be as narrow as a phone
        path.write_text(
            f'<title></title><iframe style="width: {width}px; height: 800px; border: 0" '
            f'srcdoc="{html.escape(inner)}"></iframe>'
        )
        result = subprocess.run(
            [
                CHROMIUM,
                '--headless',
                '--no-sandbox',
                '--disable-gpu',
                f'--user-data-dir={tmp_path / "profile"}',
                '--dump-dom',
                path.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
        title = html.unescape(re.search('<title>(.*?)</title>', result.stdout).group(1))
        assert title.startswith('done '), (title, result.stderr)
        return json.loads(title.removeprefix('done '))

    return run


@pytest.fixture(scope='module')
def images():
    images = [make_seen(f'im{i}', i, right) for i, right in enumerate((0.9, 0.1, 0.5))]
    # the first one is good, but for its star
    first = images[0]
    images[0] = first._replace(
        labels={'prediction': torch.where(first.truth == 2, 0, first.truth)}
    )
    # the last one has nothing to do with stars, and is doubtful
    only = images[2]
    truth, prediction = only.truth.clamp(max=1), only.labels['prediction'].clamp(max=1)
    gt_score = only.gt_score.clone()
    gt_score[1] = 0
    images[2] = only._replace(
        truth=truth, labels={'prediction': prediction}, gt_score=gt_score, confidence=0.01
    )
    return images


def test_sorts_filters_and_goes_on(run, images):
    assert run(
        make_page(images),
        'names()',
        "(choose('order', 'confidence'), names())",
        "(choose('order', 'name'), names())",
        "(choose('class', '2'), choose('order', 'iou'), names())",
        "document.getElementById('count').value",
        "(choose('class', ''), press('j'), now())",
        "(press('ArrowRight'), press('j'), press('j'), now())",
        "(press('k'), press('Enter'), shown())",
        "(press('ArrowLeft'), shown())",
        '(large.close(), shown())',
    ) == [
        ['im1', 'im2', 'im0'],
        ['im2', 'im1', 'im0'],
        ['im0', 'im1', 'im2'],
        ['im0', 'im1'],
        '2 of 3',
        'im1',
        'im0',
        'im2',
        'im1',
        None,
    ]


def test_sorts_the_table_and_a_class_leads_to_its_images(run, images):
    column = "document.querySelectorAll('.sortable thead button')"
    assert run(
        make_page(images),
        f'({column}[1].click(), rows())',  # images labelled: none of background
        f'({column}[1].click(), rows())',
        f'({column}[0].click(), rows())',
        '(document.querySelector(\'button.class[data-label="2"]\').click(), names())',
    ) == [
        ['disk', 'star', 'background'],
        ['star', 'disk', 'background'],
        ['background', 'disk', 'star'],
        ['im0', 'im1'],
    ]


def test_names_do_nothing(run, images):
    hostile = '</script><img src=x onerror="document.body.id=\'broken\'">'
    page = make_page([images[0]._replace(name=hostile)], ('background', hostile, 'b'))
    assert run(page, 'document.body.id', 'names()') == ['', [hostile]]


def test_fits_a_phone(run, images):
    """Only what scrolls by itself is wider."""
    classes = ('background', 'a class of a rather long name', 'star')
    named = [images[0]._replace(name='folder/of/a/long/name_' * 5), *images[1:]]
    root = 'document.documentElement'
    widths = f'[innerWidth, {root}.scrollWidth - {root}.clientWidth]'
    page = make_page(named, classes, facts={'config': 'long/' * 30})
    assert run(page, widths, width=375) == [[375, 0]]
