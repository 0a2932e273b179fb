"""The adjustments that let OpenMMLab's packages run on today's PyTorch."""

import importlib
import importlib.util
import pickle
import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

import mmseg_more
from mmseg_more import compat
from mmseg_more.version import STACKS, TORCH

OPENMMLAB = dict(
    mmengine='0.10.7', mmcv_lite='2.1.0', mmsegmentation='1.2.2', mmpretrain='1.2.0'
)
ONEDL = dict(
    onedl_mmengine='0.10.12',
    onedl_mmcv='2.3.6',
    onedl_mmsegmentation='1.4.2',
    onedl_mmpretrain='1.3.6',
)


def fake_versions(monkeypatch, **installed):
    """Let these distributions appear to be installed, and of both stacks no others."""
    real = compat.version
    stacks = {
        name for packages in STACKS.values() for _, names, _ in packages for name in names
    }

    def version(name):
        number = installed.get(name.replace('-', '_'))
        if number is None and name in stacks:
            raise PackageNotFoundError(name)
        return number or real(name)

    monkeypatch.setattr(compat, 'version', version)


def test_versions_that_fit(monkeypatch):
    fake_versions(monkeypatch, **OPENMMLAB)
    compat.check_versions()
    assert compat.installed_stack() == 'openmmlab'
    fake_versions(monkeypatch, **{**OPENMMLAB, 'mmcv_lite': None, 'mmcv': '2.1.0'})
    compat.check_versions()
    fake_versions(monkeypatch, **ONEDL)
    compat.check_versions()
    assert compat.installed_stack() == 'onedl'


@pytest.mark.parametrize(
    'stack, module, distribution, number',
    [
        (OPENMMLAB, 'mmengine', 'mmengine', '0.11.0'),
        (OPENMMLAB, 'mmengine', 'mmengine', '0.11.0rc3'),
        (OPENMMLAB, 'mmengine', 'mmengine', '0.9.1'),
        (OPENMMLAB, 'mmcv', 'mmcv_lite', '2.2.0'),
        (OPENMMLAB, 'mmcv', 'mmcv', '2.0.1'),
        (OPENMMLAB, 'mmseg', 'mmsegmentation', '1.2.1'),
        (OPENMMLAB, 'mmpretrain', 'mmpretrain', '1.1.0'),
        (OPENMMLAB, 'torch', 'torch', '2.5.1+cu124'),
        (ONEDL, 'mmengine', 'onedl_mmengine', '0.10.10'),
        (ONEDL, 'mmcv', 'onedl_mmcv', '2.4.0'),
        (ONEDL, 'mmseg', 'onedl_mmsegmentation', '1.4.1'),
        (ONEDL, 'mmpretrain', 'onedl_mmpretrain', '1.4.0'),
        (ONEDL, 'torch', 'torch', '2.5.1+cu124'),
    ],
)
def test_a_version_that_does_not_fit(monkeypatch, stack, module, distribution, number):
    fake_versions(monkeypatch, **{**stack, distribution: number})
    packages = (*STACKS['openmmlab' if stack is OPENMMLAB else 'onedl'], TORCH)
    fitting = {name: bounds for name, _, bounds in packages}[module]
    name = distribution.replace('_', '-')
    with pytest.raises(ImportError) as error:
        compat.check_versions()
    assert f'{name} {number} is installed, {fitting} fits' in str(error.value)
    assert f'pip install "{name}{fitting}"' in str(error.value)


def test_a_missing_package_and_all_problems_at_once(monkeypatch):
    fake_versions(monkeypatch, **{**OPENMMLAB, 'mmcv_lite': None, 'mmengine': '0.7.0'})
    with pytest.raises(ImportError) as error:
        compat.check_versions()
    assert 'mmcv is not installed, >=2.1.0,<2.2.0 fits' in str(error.value)
    assert 'mmengine 0.7.0 is installed' in str(error.value)
    assert '"mmcv-lite>=2.1.0,<2.2.0"' in str(error.value)


def test_no_package_at_all(monkeypatch):
    """OpenMMLab's are asked for, and the fork where a part of it is there."""
    fake_versions(monkeypatch)
    with pytest.raises(ImportError, match='"mmengine>=.*"mmcv-lite>=.*"mmpretrain>='):
        compat.check_versions()
    fake_versions(monkeypatch, onedl_mmengine='0.10.12')
    with pytest.raises(ImportError, match='Run: pip install "onedl-mmcv>='):
        compat.check_versions()


def test_both_stacks_over_each_other(monkeypatch):
    """Whatever the versions are."""
    fake_versions(monkeypatch, mmengine='0.7.0', mmcv='2.1.0', **ONEDL)
    with pytest.raises(ImportError) as error:
        compat.check_versions()
    names = 'mmengine mmcv onedl-mmengine onedl-mmcv onedl-mmsegmentation onedl-mmpretrain'
    assert f'over each other: {names.replace(" ", ", ")}.' in str(error.value)
    assert f'pip uninstall -y {names}; then' in str(error.value)
    assert '"mmseg_more[lite]"' in str(error.value)
    assert '"mmseg_more[onedl]"' in str(error.value)


def test_importing_the_package_checks_the_versions(monkeypatch):
    fake_versions(monkeypatch, **{**OPENMMLAB, 'mmengine': '0.9.0'})
    with pytest.raises(ImportError, match='mmengine 0.9.0 is installed'):
        importlib.reload(mmseg_more)


@pytest.mark.parametrize(
    'stack, files', [('openmmlab', ('mminstall', 'lite')), ('onedl', ('onedl',))]
)
def test_required_versions_are_those_of_the_requirements(repo_root, stack, files):
    text = '\n'.join((repo_root / f'requirements/{name}.txt').read_text() for name in files)
    lines = [line for line in text.splitlines() if line and not line.startswith('#')]
    runtime = (repo_root / 'requirements/runtime.txt').read_text().splitlines()
    lines.extend(line for line in runtime if line.startswith('torch>'))
    checked = [names[-1] + bounds for _, names, bounds in (*STACKS[stack], TORCH)]
    # setuptools is asked for by MMEngine, and no package of OpenMMLab
    assert sorted(line for line in lines if 'setuptools' not in line) == sorted(checked)


@pytest.mark.parametrize('name', ['mmsegmentation', 'no-such-distribution'])
def test_configs_of_mmseg_have_a_name(monkeypatch, tmp_path, name):
    """Also where MMEngine's list has the name of a distribution that is not there."""
    from mmengine.config.utils import MODULE2PACKAGE

    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', name)
    compat.allow_config_names()
    # not by mmengine.hub, which installs a distribution that it does not find
    (tmp_path / 'a.py').write_text("_base_ = 'mmseg::_base_/models/segformer_mit-b0.py'")
    config = Config.fromfile(tmp_path / 'a.py')
    assert config.model.backbone.type == 'MixVisionTransformer'


class TestMissingExtension:
    """With mmcv-lite, and never in the way of the real extension."""

    def without_ext(self, monkeypatch, spec):
        monkeypatch.delitem(sys.modules, 'mmcv._ext', raising=False)
        real = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util,
            'find_spec',
            lambda name, *args: spec if name == 'mmcv._ext' else real(name, *args),
        )

    def test_real_extension_is_left_alone(self, monkeypatch):
        self.without_ext(monkeypatch, importlib.util.find_spec('json'))
        compat.install_missing_extension()
        assert 'mmcv._ext' not in sys.modules

    def test_loaded_extension_is_left_alone(self, monkeypatch):
        import json

        monkeypatch.setitem(sys.modules, 'mmcv._ext', json)
        compat.install_missing_extension()
        assert sys.modules['mmcv._ext'] is json

    def test_placeholder_where_it_is_missing(self, monkeypatch):
        self.without_ext(monkeypatch, None)
        # what monkeypatch does not see set, it would not take away
        monkeypatch.setitem(sys.modules, 'mmcv._ext', None)
        del sys.modules['mmcv._ext']
        compat.install_missing_extension()
        compat.install_missing_extension()
        ext = sys.modules['mmcv._ext']
        with pytest.raises(ImportError, match=r"'nms'.*pip install \"mmcv>=2.1.0,<2.2.0\""):
            ext.nms(1, threshold=0.5)
        assert not hasattr(ext, '__path__')
        with pytest.raises(AttributeError, match='__wrapped__'):
            _ = ext.__wrapped__
        monkeypatch.undo()

    def test_everything_of_mmseg_imports(self):
        for name in (
            'mmseg.models',
            'mmseg.datasets',
            'mmseg.apis',
            'mmcv.ops',
            'mmpretrain.models',
        ):
            importlib.import_module(name)
        # as Python itself asks for a loaded module
        assert importlib.util.find_spec('mmcv._ext') is not None


class TestCheckpoints:
    """torch.load stays restricted to tensors, plus what MMEngine itself writes."""

    @pytest.fixture
    def message_hub(self):
        buffer = HistoryBuffer([1.0, 2.5], [1, 1])
        return dict(
            log_scalars={'train/loss': buffer},
            runtime_info=dict(
                iter=3,
                best=np.float64(0.5),
                count=np.int64(7),
                flag=np.bool_(True),
                name=np.str_('x'),
                small=np.arange(3, dtype=np.int32),
            ),
        )

    def test_logs_survive(self, tmp_path, message_hub):
        torch.save(dict(message_hub=message_hub, weight=torch.ones(2)), tmp_path / 'a.pth')
        # as MMEngine calls it: restricted by default since PyTorch 2.6
        loaded = torch.load(tmp_path / 'a.pth')['message_hub']
        buffer = loaded['log_scalars']['train/loss']
        assert buffer.mean() == 1.75 and buffer.current() == 2.5
        assert buffer.statistics('max') == 2.5 and buffer.statistics('min') == 1.0
        for key, value in message_hub['runtime_info'].items():
            np.testing.assert_array_equal(loaded['runtime_info'][key], value)

    @pytest.mark.parametrize('package', ['numpy.core', 'numpy._core'])
    def test_names_of_both_numpy_generations(self, tmp_path, message_hub, package):
        torch.save(message_hub, tmp_path / 'a.pth')
        renamed = tmp_path / 'b.pth'
        self.rename_numpy(tmp_path / 'a.pth', renamed, package)
        buffer = torch.load(renamed)['log_scalars']['train/loss']
        assert buffer.mean() == 1.75

    @staticmethod
    def rename_numpy(source, target, package):
        """Write the checkpoint as the other NumPy would."""
        from zipfile import ZipFile

        with ZipFile(source) as old, ZipFile(target, 'w') as new:
            for name in old.namelist():
                data = old.read(name)
                if name.endswith('data.pkl'):
                    data, count = re.subn(
                        rb'cnumpy\._?core\.multiarray\n',
                        f'c{package}.multiarray\n'.encode(),
                        data,
                    )
                    assert count > 0
                new.writestr(name, data)

    @pytest.mark.parametrize(
        'owner, name',
        [
            (HistoryBuffer, '__init__'),
            (HistoryBuffer, 'update'),
            (np.ndarray, 'min'),
            (dict, 'update'),
        ],
    )
    def test_getattr_reaches_nothing_else(self, tmp_path, owner, name):

        class Reach:
            def __reduce__(self):
                return getattr, (owner, name)

        torch.save(Reach(), tmp_path / 'a.pth')
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / 'a.pth', weights_only=True)

    def test_other_code_stays_forbidden(self, tmp_path):

        class Harm:
            def __reduce__(self):
                return print, ('executed',)

        torch.save(Harm(), tmp_path / 'a.pth')
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / 'a.pth', weights_only=True)


class Harm:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestCheckpointLoader:
    """Everything of MMEngine that reads a checkpoint goes through it."""

    @pytest.mark.parametrize(
        'address', ['https://example.com/a.pth', 'torchvision://resnet18']
    )
    def test_a_download_is_as_restricted_as_a_file(self, tmp_path, monkeypatch, address):
        folder = tmp_path / 'hub' / 'checkpoints'
        folder.mkdir(parents=True)
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))

        def download(url, target, *args, **kwargs):
            torch.save(dict(state_dict=Harm(tmp_path / 'ran')), target)

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        with pytest.raises(pickle.UnpicklingError, match='holds more than weights'):
            CheckpointLoader.load_checkpoint(address, 'cpu')
        assert not (tmp_path / 'ran').exists() and len(list(folder.iterdir())) == 1

    def test_a_file_is_not_opened_without_the_restriction(self, tmp_path):
        """As OneDL's MMEngine does where it does not know an object."""
        torch.save(dict(state_dict=Harm(tmp_path / 'ran')), tmp_path / 'a.pth')
        with pytest.raises(pickle.UnpicklingError, match='holds more than weights'):
            CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')
        assert not (tmp_path / 'ran').exists()

    def test_an_address_that_does_not_answer_is_named(self, tmp_path, monkeypatch):
        """PyTorch's error names neither a file nor the address."""
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))

        def download(*args, **kwargs):
            raise URLError('refused')

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        with pytest.raises(OSError, match='checkpoint https://.*/a.pth cannot be read'):
            CheckpointLoader.load_checkpoint('https://example.com/a.pth', 'cpu')

    def test_the_function_of_the_fork_is_replaced(self, monkeypatch):
        """Neither its second try without restriction nor its ``getattr`` is left."""
        import mmengine.runner.checkpoint as checkpoint

        monkeypatch.setattr(checkpoint, '_safe_torch_load', None, raising=False)
        compat.restrict_loading()
        assert checkpoint._safe_torch_load is torch.load

    def test_a_download_of_ours_is_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
        monkeypatch.setattr(
            torch.hub,
            'download_url_to_file',
            lambda url, target, *args, **kwargs: torch.save(
                dict(log=HistoryBuffer([2.0], [1])), target
            ),
        )
        loaded = CheckpointLoader.load_checkpoint('https://example.com/a.pth', 'cpu')
        assert loaded['log'].current() == 2.0

    def test_config_text_that_a_resume_would_run(self, tmp_path):
        meta = dict(config='raise SystemExit', cfg='a = 1', iter=3)
        torch.save(dict(meta=meta, weight=torch.ones(2)), tmp_path / 'a.pth')
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'a.pth'), 'cpu')
        assert loaded['meta'] == dict(cfg='a = 1', iter=3)
        torch.save(dict(meta=[1], weight=torch.ones(2)), tmp_path / 'b.pth')  # no dict
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / 'b.pth'), 'cpu')
        assert loaded['meta'] == [1] and loaded['weight'].sum() == 2
        torch.save([torch.ones(2)], tmp_path / 'c.pth')
        (weight,) = CheckpointLoader.load_checkpoint(str(tmp_path / 'c.pth'), 'cpu')
        assert weight.sum() == 2

    def test_applied_twice(self):
        before = CheckpointLoader.load_checkpoint
        compat.apply()
        assert CheckpointLoader.load_checkpoint is before


def test_multimodal_models_are_skipped():
    import mmpretrain.utils.dependency as dependency

    assert dependency.WITH_MULTIMODAL is False
