"""A folder of masks whose runs are killed: finished stays, and nothing false is said."""

import hashlib
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmseg_more.masks import MaskFolder, read_manifest
from mmseg_more.masks import folder as folder_module

NAMES = ('a', 'x/b', 'c', 'x/d')
IDENTITY = dict(settings=dict(source='lam'), classes=['b', 'c'], palette=[[0, 0, 0]])
WEIGHTS = dict(weights_sha256='0' * 64, path='a.pth', sha256='1')


class Killed(BaseException):
    """Nothing of the process runs on, no handler either."""


class Power:
    """Ends the process before one of its steps on the disk, counted from 0."""

    def __init__(self, steps, cut):
        self.steps, self.cut = steps, cut

    def step(self):
        if self.steps == 0:
            raise Killed
        self.steps -= 1

    def write_bytes(self, path, content, sync=False):
        """As the real one: a file of another name takes the place of ``path``."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f'.{path.name}.12345678'
        self.step()
        temporary.write_bytes(content[: int(self.cut * len(content))])
        self.step()
        temporary.write_bytes(content)
        self.step()
        os.replace(temporary, path)

    def write(self, file, line):
        """An append to a journal, of which the disk may see a part."""
        self.step()
        part = int(self.cut * len(line))
        if self.steps == 0:
            os.write(file, line[:part])
            raise Killed
        return os.write(file, line)

    def install(self, patch):
        unlink = Path.unlink

        def unlink_later(path, missing_ok=False):
            self.step()
            unlink(path, missing_ok=missing_ok)

        system = SimpleNamespace(**{**vars(os), 'write': self.write})
        patch.setattr(folder_module, 'os', system)
        patch.setattr(folder_module, 'write_bytes', self.write_bytes)
        patch.setattr(Path, 'unlink', unlink_later)


def mask_of(name, labels):
    return f'mask of {name} with {labels}'.encode()


class Sessions:
    """Runs over one folder, and what is known of it from outside."""

    def __init__(self, root):
        self.root = root
        self.finished = {}  # name -> labels, of the images that were recorded

    def run(self, labels, soft_maps, broken, num_ranks):
        """One run, to its end unless it is killed."""
        for name, of_mask in list(self.finished.items()):
            if of_mask != labels[name]:
                del self.finished[name]  # from now on it may be forgotten
        first = MaskFolder(self.root)
        done = first.start(IDENTITY, WEIGHTS, labels, soft_maps=soft_maps)
        self.check_start(first, done, labels, soft_maps)
        ranks = [MaskFolder(self.root) for _ in range(num_ranks)]
        try:
            for rank, folder in enumerate(ranks):
                folder.open_journal(rank)
            todo = [name for name in labels if name not in done]
            for number, name in enumerate(todo):
                self.make(ranks[number % num_ranks], name, labels, soft_maps, broken)
        finally:
            for folder in ranks:
                folder.close_journal()  # as the system does
        missing = first.finish(list(labels))
        assert set(missing) == set(broken) & set(todo)
        manifest = read_manifest(self.root / 'manifest.json')
        assert manifest['complete'] == (not missing)
        assert set(manifest['images']) == set(labels) - set(missing)
        assert set(manifest['failed']) == set(missing)
        assert not list(self.root.rglob('.*'))

    def make(self, folder, name, labels, soft_maps, broken):
        self.finished.pop(name, None)
        if name in broken:
            folder.record(name, dict(error='broken'))
            return
        folder.write(folder.mask_path(name), mask_of(name, labels[name]))
        if soft_maps:
            folder.write(folder.soft_path(name), b'soft')
        folder.record(name, dict(classes=labels[name]))
        self.finished[name] = labels[name]

    def check_start(self, folder, done, labels, soft_maps):
        for name in done:
            content = mask_of(name, labels[name])
            assert folder.mask_path(name).read_bytes() == content
            assert not soft_maps or folder.soft_path(name).read_bytes() == b'soft'
        for name in self.finished:
            assert (name in done) == (not soft_maps or folder.soft_path(name).exists())
        self.check_manifest(labels)
        assert not read_manifest(self.root / 'manifest.json')['complete']

    def check_manifest(self, labels):
        """What a reader finds at any time: each entry is of a file that is whole."""
        path = self.root / 'manifest.json'
        if not path.exists():
            return
        manifest = read_manifest(path)
        for name, entry in manifest['images'].items():
            content = (self.root / f'{name}.png').read_bytes()
            noted = entry['files']['mask']
            assert noted['bytes'] == len(content)
            assert noted['sha256'] == hashlib.sha256(content).hexdigest()
        if manifest['complete']:
            assert set(manifest['images']) >= set(labels)


@st.composite
def plans(draw):
    """Runs one after the other: what they do, and before which step they are killed."""
    return [
        dict(
            steps=draw(st.integers(0, 40)),
            cut=draw(st.floats(0, 1)),
            soft_maps=draw(st.booleans()),
            broken=draw(st.sets(st.sampled_from(NAMES), max_size=2)),
            num_ranks=draw(st.integers(1, 2)),
            changed=draw(st.sets(st.sampled_from(NAMES), max_size=1)),
        )
        for _ in range(draw(st.integers(1, 4)))
    ]


@given(plans())
def test_killed_between_any_two_writes(plan):
    labels = {name: ['c'] for name in NAMES}
    with tempfile.TemporaryDirectory() as root:
        sessions = Sessions(Path(root))
        for run in plan:
            power = Power(run.pop('steps'), run.pop('cut'))
            for name in run.pop('changed'):
                labels[name] = ['b'] if labels[name] == ['c'] else ['c']
            with pytest.MonkeyPatch.context() as patch:
                power.install(patch)
                try:
                    sessions.run(labels, **run)
                except Killed:
                    pass
        sessions.run(labels, soft_maps=False, broken=(), num_ranks=1)
        assert read_manifest(Path(root) / 'manifest.json')['complete']
        sessions.check_manifest(labels)


def journal_of(root, names):
    """A folder whose run was killed before its end, and the bytes of its journal."""
    folder = MaskFolder(root)
    folder.start(IDENTITY, WEIGHTS, dict.fromkeys(names))
    folder.open_journal(0)
    for name in names:
        folder.write(folder.mask_path(name), mask_of(name, None))
        folder.record(name, dict(classes=['c']))
    folder.close_journal()
    return root / '.journal-0.jsonl', (root / '.journal-0.jsonl').read_bytes()


@given(st.floats(0, 1), st.binary(max_size=6))
@example(1.0, b'0')  # which is JSON
@example(1.0, b'{}\n')
def test_a_journal_that_is_cut_at_any_byte(cut, garbage):
    """Lines that are whole count, whatever a disk has put behind them."""
    with tempfile.TemporaryDirectory() as root:
        journal, content = journal_of(Path(root), NAMES)
        kept = content[: int(cut * len(content))]
        journal.write_bytes(kept + garbage)
        done = MaskFolder(root).start(IDENTITY, WEIGHTS, dict.fromkeys(NAMES))
        whole = kept.count(b'\n')
        assert done[:whole] == list(NAMES[:whole])
        assert len(done) == whole or kept.endswith(b'}')  # the line lacks its end alone
