"""Packaging. Everything declarative is here; the build system is in pyproject.toml."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What mim, and tools that read model-index.yml, look for below mmseg_more/.mim
MIM_FILES = ('configs', 'tools', 'model-index.yml')
# What Python executes at every start: mmseg_more_import_hook.py says for what
START_FILE = 'mmseg_more.pth'


def requirements(name):
    """The lines of one file of requirements/, the same on every machine."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.split('#')[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def version():
    text = (ROOT / 'mmseg_more' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"__version__ = '(.+?)'", text).group(1)


class BuildWithMim(build_py):
    """Put configs, tools and the model index under mmseg_more/.mim, and add the .pth file.

    A wheel gets copies, an editable install links (or copies, where the file system has no
    links), so that an edited config is the one that is found there. (mim looks for
    packages in site-packages only: `mim train mmseg CONFIG` works with both,
    `mim train mmseg_more CONFIG` with a wheel.)
    """

    def run(self):
        super().run()
        base = ROOT if self.editable_mode else Path(self.build_lib)
        target = base / 'mmseg_more' / '.mim'
        target.mkdir(parents=True, exist_ok=True)
        for name in MIM_FILES:
            self._place(ROOT / name, target / name)
        # beside the package in site-packages, where Python looks for .pth files
        beside = self._site_packages() if self.editable_mode else self.build_lib
        shutil.copyfile(ROOT / START_FILE, Path(beside, START_FILE))

    def _site_packages(self):
        """The folder that becomes site-packages when an editable wheel is installed."""
        return self.get_finalized_command('install').install_lib

    def _place(self, source, target):
        if target.is_symlink() or target.is_file():
            target.unlink()
        elif target.is_dir():
            shutil.rmtree(target)
        if self.editable_mode:
            try:
                target.symlink_to(Path('..', '..', source.name))
                return
            except OSError:
                pass
        if source.is_dir():
            shutil.copytree(
                source, target, ignore=shutil.ignore_patterns('__pycache__', '*.pyc')
            )
        else:
            shutil.copyfile(source, target)


setup(
    name='mmseg_more',
    version=version(),
    description='MoRe: weakly supervised semantic segmentation from image labels, '
    'for MMSegmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8')
    if (ROOT / 'README.md').exists()
    else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='weakly supervised semantic segmentation, vision transformer, MMSegmentation',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    # 3.10 is the oldest that current releases of torch install on
    python_requires='>=3.10',
    packages=find_packages(include=['mmseg_more', 'mmseg_more.*']),
    # not in the package, whose import takes seconds
    py_modules=['mmseg_more_import_hook'],
    # An editable install is then a line in a .pth file. Otherwise it is a finder that comes
    # after the search path, where Python, started in the folder above a checkout, has found
    # the checkout's own folder of the same name and taken it for a package without content.
    package_dir={'': '.'},
    package_data={'mmseg_more': ['py.typed', 'report/templates/*']},
    # Without the OpenMMLab packages, of which there are two stacks with the same modules,
    # and without mmcv, as in MMSegmentation: which distribution fits depends on the
    # machine, and pip would put the files of one over those of another. `import mmseg_more`
    # says what is missing, and what lies over each other; docs/stacks.md names the extras.
    install_requires=requirements('runtime'),
    extras_require={
        # for a machine with a full mmcv, whose compiled operations other packages need
        'openmmlab': requirements('mminstall'),
        'lite': requirements('mminstall') + requirements('lite'),
        'onedl': requirements('onedl'),
        'mim': requirements('mim'),
        'deploy': requirements('deploy'),
        'coco': requirements('coco'),
        'backbones': requirements('backbones'),
        'annotation': requirements('annotation'),
        'tests': [
            line
            for name in ('tests', 'deploy', 'coco', 'backbones')
            for line in requirements(name)
        ],
        'optional': requirements('optional'),
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
