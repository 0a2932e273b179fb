"""Packaging. Everything declarative is here; the build system is in pyproject.toml."""

import re
import shutil
import site
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# What mim, and tools that read model-index.yml, look for below mmseg_more/.mim
MIM_FILES = ('configs', 'tools', 'model-index.yml')
# One module, two distributions: the second satisfies the first where it is installed
# already, and pip must not put the other's files over it.
EQUIVALENTS = {'mmcv-lite': 'mmcv', 'pydensecrf2': 'pydensecrf'}


def installed_names():
    """Names of the distributions of the environment that is installed into.

    pip builds in an isolated environment that hides them from `sys.path`, but with the
    environment's own interpreter, which knows where they are.
    """
    paths = {sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}
    paths.update(site.getsitepackages())
    if site.ENABLE_USER_SITE or site.check_enableusersite():
        paths.add(site.getusersitepackages())
    return {
        (dist.metadata['Name'] or '').lower().replace('_', '-')
        for dist in distributions(path=sorted(paths))
    }


def requirements(name):
    """Lines of one file of requirements/, with what is installed taken into account."""
    text = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8')
    lines = (line.split('#')[0].strip() for line in text.splitlines())
    installed = installed_names()
    found = []
    for line in filter(None, lines):
        package, bounds = re.match(r'([\w.-]+)(.*)', line).groups()
        other = EQUIVALENTS.get(package)
        if other in installed:
            # pydensecrf numbers its releases on its own; mmcv and mmcv-lite agree
            line = other + (bounds if other == 'mmcv' else '')
        found.append(line)
    return found


def version():
    text = (ROOT / 'mmseg_more' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"__version__ = '(.+?)'", text).group(1)


class BuildWithMim(build_py):
    """Put configs, tools and the model index under mmseg_more/.mim.

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
    install_requires=requirements('mminstall') + requirements('runtime'),
    extras_require={'tests': requirements('tests'), 'optional': requirements('optional')},
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
