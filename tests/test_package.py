"""What the package ships, and what importing it registers."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from mmengine.registry import Registry
from packaging.requirements import Requirement

import mmseg_more
from mmseg_more.version import STACKS

NAMES = {
    'MODELS': (
        'MoRe',
        'MoReTTAModel',
        'MoReViT',
        'GraphCategoryRepresentation',
        'LargeFOVHead',
        'PatchAffinityHead',
        'ConfidentRelationLoss',
        'UncertainRelationLoss',
        'TokenDiscriminationLoss',
        'PatchAffinityLoss',
        'BalancedCrossEntropyLoss',
        'DenseEnergyLoss',
    ),
    'HOOKS': (
        'BrokenImagesHook',
        'HealthHook',
        'IterationHook',
        'LocalizationHook',
        'LossImagesHook',
        'SanityCheckHook',
        'PseudoLabelHook',
    ),
    'LOOPS': ('MaskLoop', 'ResumableTrainLoop'),
    'PARAM_SCHEDULERS': ('PolyWarmupLR',),
    'METRICS': (
        'CalibrationMetric',
        'ReliabilityMetric',
        'LocalizationMetric',
        'ProtocolMetric',
        'BoundaryIoUMetric',
        'ObjectSizeIoUMetric',
        'PxAPMetric',
        'MaxBoxAccV2Metric',
        'PointingGameMetric',
    ),
    'DATASETS': (
        'VOCImageLevelDataset',
        'COCO14ImageLevelDataset',
        'ImageLevelDataset',
        'PseudoLabelDataset',
    ),
    'TRANSFORMS': (
        'LoadAnyImage',
        'LoadCorrectedMask',
        'LoadMask',
        'PackImageLevelInputs',
        'PILColorJitter',
        'RandomCropWithMask',
        'RandomRescale',
        'RandomResizedCropWithMask',
    ),
    'OPTIM_WRAPPERS': ('CPUAmpOptimWrapper',),
    'RUNNERS': ('ShardedRunner',),
}


@pytest.mark.parametrize('registry', NAMES)
def test_importing_the_package_registers(registry):
    import mmseg.registry

    table: Registry = getattr(mmseg.registry, registry)
    for name in NAMES[registry]:
        assert table.module_dict[name].__module__.startswith('mmseg_more.'), name


def test_version_is_the_installed_one():
    assert mmseg_more.__version__.count('.') == 2


def read_requirements(repo_root, name):
    lines = (repo_root / 'requirements' / f'{name}.txt').read_text().splitlines()
    return lines, [Requirement(line) for line in lines if line and line[0] != '#']


REQUIREMENTS = (
    'runtime',
    'mminstall',
    'lite',
    'onedl',
    'mim',
    'deploy',
    'coco',
    'annotation',
    'backbones',
    'tests',
    'optional',
)


@pytest.mark.parametrize('name', REQUIREMENTS)
def test_bounds_have_reasons(repo_root, name):
    """Every requirement is explained by the comment above it (or above its group)."""
    lines, requirements = read_requirements(repo_root, name)
    assert requirements
    explained = False
    for line in lines:
        if line.startswith('#'):
            explained = True
        elif not line:
            explained = False
        else:
            assert explained, f'{name}.txt: {line} has no reason'


def test_imports_are_required(repo_root):
    """No third-party module is imported at the top of a module without being required."""
    provided = {'pydensecrf2': 'pydensecrf', 'mmcv-lite': 'mmcv', 'mmsegmentation': 'mmseg'}
    names = [
        requirement.name
        for part in ('runtime', 'mminstall', 'lite')
        for requirement in read_requirements(repo_root, part)[1]
    ]
    allowed = {provided.get(name, name) for name in names}
    # required by mmengine, mmcv and mmsegmentation themselves, which use them likewise
    allowed |= {'cv2', 'PIL', 'matplotlib', 'prettytable', 'rich'}
    allowed.add(
        'triton'
    )  # comes with PyTorch for CUDA; its module is imported if it is there
    for path in sorted((repo_root / 'mmseg_more').rglob('*.py')):
        for node in ast.parse(path.read_text()).body:
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            for module in modules:
                top = module.split('.')[0]
                assert top in allowed | set(sys.stdlib_module_names) | {'mmseg_more'}, (
                    f'{path.name} imports {top}, which requirements/ does not name'
                )


@pytest.fixture
def setup_module(repo_root, monkeypatch):
    """setup.py without its effect; `arguments` is what it calls `setup` with."""
    import setuptools

    arguments = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **kwargs: arguments.update(kwargs))
    namespace = {'__file__': str(repo_root / 'setup.py'), '__name__': 'setup'}
    exec((repo_root / 'setup.py').read_text(), namespace)
    return dict(namespace, arguments=arguments)


def test_requirements_are_the_files_lines(repo_root, setup_module):
    """Whatever is installed where the wheel is built."""
    arguments = setup_module['arguments']
    lines = {
        name: {str(line) for line in read_requirements(repo_root, name)[1]}
        for name in REQUIREMENTS
    }
    required = set(map(str, map(Requirement, arguments['install_requires'])))
    assert required == lines.pop('runtime')
    extras = {
        name: {str(Requirement(line)) for line in found}
        for name, found in arguments['extras_require'].items()
    }
    # they are tested, not skipped
    lines['tests'] |= lines['deploy'] | lines['coco'] | lines['backbones']
    lines['openmmlab'] = lines.pop('mminstall')
    lines['lite'] |= lines['openmmlab']
    assert extras == lines


def test_no_extra_has_two_distributions_of_a_module(setup_module):
    """No requirement puts files of one over those of another; mmcv is the user's choice."""
    arguments = setup_module['arguments']
    names = {
        extra: {Requirement(line).name for line in lines}
        for extra, lines in arguments['extras_require'].items()
    }
    names[''] = {Requirement(line).name for line in arguments['install_requires']}
    stacks = {
        stack: {name for _, distributions, _ in packages for name in distributions}
        for stack, packages in STACKS.items()
    }
    found = {
        extra: [stack for stack in stacks if stacks[stack] & names[extra]]
        for extra in names
    }
    assert found.pop('openmmlab') == found.pop('lite') == ['openmmlab']
    assert found.pop('onedl') == ['onedl']
    assert not any(found.values())
    assert not names['openmmlab'] & {'mmcv', 'mmcv-lite'}
    assert names['lite'] == names['openmmlab'] | {'mmcv-lite'}
    assert {'torch', 'pydensecrf2', 'pebble'} <= names['']


def copy_of_checkout(repo_root, folder):
    """What packages are built from."""
    ignored = ('.git', '.venv*', 'work_dirs', 'data', 'tests', '.mim', '*.egg-info')
    shutil.copytree(repo_root, folder, ignore=shutil.ignore_patterns(*ignored))
    return folder


def build(source, out, hook):
    """Wheels that a hook of the build system writes into ``out``, as pip calls it."""
    code = (
        'from setuptools import build_meta; import sys; '
        'getattr(build_meta, sys.argv[1])(sys.argv[2])'
    )
    subprocess.run(
        [sys.executable, '-c', code, hook, str(out)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    return list(out.glob('*.whl'))


def test_wheel_carries_what_mim_needs(repo_root, tmp_path):
    """Configs, tools and the model index are inside."""
    source = copy_of_checkout(repo_root, tmp_path / 'source')
    (wheel,) = build(source, tmp_path, 'build_wheel')
    names = set(zipfile.ZipFile(wheel).namelist())
    for config in (repo_root / 'configs').rglob('*.py'):
        assert (
            f'mmseg_more/.mim/configs/{config.relative_to(repo_root / "configs")}' in names
        )
    assert {
        'mmseg_more/.mim/tools/train.py',
        'mmseg_more/.mim/tools/test.py',
        'mmseg_more/.mim/model-index.yml',
        'mmseg_more/py.typed',
        'mmseg_more/report/templates/page.css',
        'mmseg_more/report/templates/page.html',
        'mmseg_more/report/templates/page.js',
        'mmseg_more.pth',
        'mmseg_more_import_hook.py',
    } <= names
    assert not any(name.startswith(('tests/', 'configs/', 'tools/')) for name in names)
    for path in (repo_root / 'mmseg_more').rglob('*.py'):
        if '.mim' not in path.parts:
            assert str(path.relative_to(repo_root)) in names


def test_model_index_names_what_exists(repo_root):
    index = yaml.safe_load((repo_root / 'model-index.yml').read_text())
    for part in index['Import']:
        meta = yaml.safe_load((repo_root / part).read_text())
        collections = {entry['Name'] for entry in meta['Collections']}
        for model in meta['Models']:
            assert model['In Collection'] in collections
            assert Path(repo_root, model['Config']).is_file(), model['Config']
            assert model['Weights'] == 'unpublished://'
            for result in model['Results']:
                assert result['Dataset'].endswith(('(published)', '(measured)'))


@pytest.mark.slow
def test_editable_install_is_found_from_the_folder_above(repo_root, tmp_path):
    """There the checkout's folder, of the same name, looks like a package of no content."""
    checkout = copy_of_checkout(repo_root, tmp_path / 'above' / 'mmseg_more')
    (wheel,) = build(checkout, tmp_path, 'build_editable')
    zipfile.ZipFile(wheel).extractall(tmp_path / 'site')
    assert (tmp_path / 'site' / 'mmseg_more.pth').is_file()
    code = (
        'import sys, site; site.addsitedir(sys.argv[1]); from importlib.util import '
        "find_spec; print(find_spec('mmseg_more').origin, sys.meta_path[0].__name__)"
    )
    found = subprocess.run(
        [sys.executable, '-S', '-c', code, str(tmp_path / 'site')],
        cwd=checkout.parent,
        env={},
        capture_output=True,
        text=True,
    )
    origin = checkout / 'mmseg_more' / '__init__.py'
    assert found.stdout.split() == [str(origin), 'ImportHook'], found.stderr
