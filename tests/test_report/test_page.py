import json
import re
from html.parser import HTMLParser

import pytest
import torch

from report_samples import make_page, make_report, make_seen

VOID = {'meta', 'img'}
HOSTILE = '</script><img src=x onerror="alert(1)">&amp;\'é猫'


class Page(HTMLParser):
    """Elements of a page, each with its text; every one must be closed in its place."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = [tag, dict(attrs), '']
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ''])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for element in self.open:
            element[2] += data

    def all(self, tag, **attributes):
        return [
            element
            for element in self.elements
            if element[0] == tag and attributes.items() <= element[1].items()
        ]

    @property
    def data(self):
        (script,) = self.all('script', id='data')
        return json.loads(script[2])['images']

    @property
    def names(self):
        return [element[2] for element in self.all('h3')]


@pytest.fixture(scope='module')
def images():
    return [make_seen(f'im{i}', i, right) for i, right in enumerate((0.9, 0.1, 0.5))]


def test_sorted_by_the_worst_iou(images):
    page = Page(make_page(images))
    assert page.names == ['im1', 'im2', 'im0'] == [image['name'] for image in page.data]
    ious = [image['iou'] for image in page.data]
    assert ious == sorted(ious)
    assert page.data[0]['classes'] == [1, 2]
    assert set(page.data[0]['ious']) == {'0', '1', '2'}
    options = [element[1]['value'] for element in page.all('option')]
    assert options == ['', '1', '2', 'iou', 'confidence', 'name']
    assert len(page.all('img')) == 3 * 4
    assert [link[1]['href'] for link in page.all('a')] == [
        '#classes',
        '#thresholds',
        '#confusion',
        '#gallery',
    ]


def test_without_truth_the_least_confident_come_first(images):
    page = Page(make_page([seen._replace(truth=None) for seen in images]))
    assert page.names == ['im1', 'im2', 'im0']
    assert [image['iou'] for image in page.data] == [None] * 3
    assert 'iou' not in [element[1]['value'] for element in page.all('option')]
    assert [link[1]['href'] for link in page.all('a')] == ['#classes', '#gallery']
    assert not page.all('svg')


def test_image_labels_that_are_all_negative_have_no_precision(images):
    scored = dict(gt_score=torch.zeros(2), pred_score=torch.tensor([0.3, 0.4]))
    assert 'mAP' not in make_page([images[0]._replace(**scored)])
    scored['gt_score'] = torch.tensor([1.0, 0.0])
    assert 'mAP' in make_page([images[0]._replace(**scored)])


def test_names_are_text(images):
    """Of classes, files and folders, whatever they hold."""
    classes = ('background', HOSTILE, '{{ 7 * 7 }}')
    named = images[0]._replace(name=f'below/{HOSTILE}')
    page = Page(make_page([named], classes, title=f't {HOSTILE}', facts={'masks': HOSTILE}))
    assert page.names == [f'below/{HOSTILE}'] == [page.data[0]['name']]
    assert page.all('h1')[0][2] == f't {HOSTILE}'
    assert HOSTILE in [element[2] for element in page.all('dd')]
    assert [element[2] for element in page.all('button') if 'data-label' in element[1]] == [
        *classes[1:]
    ]
    assert len(page.all('script')) == 2
    assert all(img[1]['src'].startswith('data:image/') for img in page.all('img'))
    assert not [e for e in page.elements if any(name.startswith('on') for name in e[1])]


def test_needs_no_network(images):
    text = make_page(images)
    without_pictures = re.sub(r'data:image/webp;base64,[\w+/=]+', '', text)
    assert not re.search(r'https?:|//\w|@import|url\(|fetch|<link', without_pictures)
    (policy,) = (
        element[1]['content']
        for element in Page(text).all('meta')
        if element[1].get('http-equiv') == 'Content-Security-Policy'
    )
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_a_file_name_that_is_no_text(images):
    """Python holds bytes that are not UTF-8 as lone surrogates."""
    page = Page(make_page([images[0]._replace(name='a\udcff')]))
    assert page.names == ['a\\udcff']


def test_says_what_is_left_out(images):
    _, gallery = make_report(images)
    room = sum(card.num_bytes for card in gallery.cards) - 1
    page = Page(make_page(images, max_bytes=room))
    assert page.names == ['im1', 'im2']
    notes = ' '.join(element[2] for element in page.all('p'))
    assert 'shows the 2 worst images and has no room for 1 more' in notes


def test_curves_in_the_drawing(images):
    page = Page(make_page(images))
    (line,) = page.all('polyline')
    points = [tuple(map(float, pair.split(','))) for pair in line[1]['points'].split()]
    assert len(points) == 19
    assert points[0][0] == 20 and points[-1][0] == 380  # .05 and .95
    assert all(0 <= y <= 200 for _, y in points)
    best, fixed = page.all('circle')
    assert float(best[1]['cy']) == pytest.approx(min(y for _, y in points), abs=0.05)
    assert float(fixed[1]['cx']) == 200  # .5
