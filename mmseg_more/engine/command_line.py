"""What all command lines share: a mistake of the user, or a stop, is one line."""

import argparse
import errno
import functools
import linecache
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from contextlib import contextmanager
from typing import (
    Any,
    Callable,
    Iterator,
    NamedTuple,
    NoReturn,
    Optional,
    Sequence,
    TypeVar,
    Union,
)

from mmengine.config import DictAction
from mmengine.logging import MMLogger

TRACEBACK = 'MMSEG_MORE_TRACEBACK'
"""Environment variable: with 1, a user's mistake comes with its traceback."""
MISTAKE = 2
"""Exit status of a command that was given something it cannot work with."""
# the disk is full, its quota is used up, it cannot be written to
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# beginnings of warnings of MMEngine and MMSegmentation about themselves, in any run
_OF_OTHERS = (
    'pkg_resources is deprecated',
    '``build_loss`` would be deprecated',
    'Default ``avg_non_ignore`` is False',
    'Failed to add <class .*VisBackend',
    'The draw is False',
)
# what this package raises where it refuses something
_REFUSALS = (ValueError, TypeError, KeyError, OSError, ImportError)
# beginnings of names of methods by which MMEngine's runners make parts from a config
_BUILDING = ('build_', 'set_randomness', 'register_default_hooks', 'register_custom_hooks')
_LOOP = re.compile('build_(train|val|test)_loop')
_RAISED_BY_BUILDING = ('is not in the', 'got an unexpected keyword argument', 'missing ')

Function = TypeVar('Function', bound=Callable[..., Any])


class CommandParser(argparse.ArgumentParser):
    """A parser that keeps the layout of the description, and errors to one line."""

    def __init__(self, description: Optional[str]) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=f'A mistake is one line; {TRACEBACK}=1 in the environment shows where '
            'it was found.',
        )

    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and leave with exit status 2."""
        self.exit(MISTAKE, f'error: {message} (see {self.prog} --help)\n')


class ConfigOptions(DictAction):
    """``--cfg-options KEY=VALUE ...``, that says which one is malformed."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Union[str, Sequence[Any], None],
        option_string: Optional[str] = None,
    ) -> None:
        """Collect the options, as the base class does."""
        for option in values or ():
            key, equals, _ = str(option).partition('=')
            if not (key and equals):
                parser.error(
                    f'{option_string}: {option!r} has no value: write '
                    f'{key or "KEY"}=VALUE, without spaces'
                )
        given = f'{option_string}: {" ".join(map(str, values or ()))}'
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError) as error:
            parser.error(f'{given}: {error}')
        except RecursionError:  # MMEngine's parser does not get past ``name(a,b)``
            parser.error(
                f'{given}: a value is a number, a text, None, True, False, or a list or '
                'tuple of them: write anything else, such as dict(...), into a config'
            )


def add_config_options(
    parser: argparse.ArgumentParser, help: str = 'override some settings in the used config'
) -> None:
    """Let a command take ``--cfg-options``, a dict in its arguments or None.

    Args:
        parser: Of the command.
        help: What is said of the option.
    """
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, help=help)


class PixelLimit(NamedTuple):
    """What ``--max-pixels`` was given."""

    value: Optional[int]
    """Pixels; None: no limit."""


def pixel_limit(text: str) -> PixelLimit:
    """The argument of ``--max-pixels``: a whole number of at least 1, or ``none``.

    Raises:
        ArgumentTypeError: If it is neither.
    """
    if text.lower() == 'none':
        return PixelLimit(None)
    if text.isascii() and text.isdigit() and int(text) > 0:
        return PixelLimit(int(text))
    raise argparse.ArgumentTypeError(
        f'expected a whole number of at least 1, or none, got {text!r}'
    )


def process_count(text: str) -> int:
    """The argument of ``--workers``: a whole number of at least 0.

    Raises:
        ArgumentTypeError: If it is none.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    raise argparse.ArgumentTypeError(f'expected a whole number of at least 0, got {text!r}')


def command(function: Function) -> Function:
    """Decorator of ``main``: a user's mistake is ``error: ...`` and exit status 2.

    It is one if this package refuses something (it raises an error of its own making), if
    a file cannot be read or written, if a config names something that does not exist, or if
    others refuse a value while the Runner builds a part of the config.
    Any other exception is a fault of the program and keeps its traceback. That of a mistake
    goes to the log file, where there is one, and with ``MMSEG_MORE_TRACEBACK=1`` to the
    screen. What ends in one line without being a mistake: :func:`ends_in_one_line`.
    """

    @functools.wraps(function)
    def main(*args: Any, **kwargs: Any) -> Any:
        for beginning in _OF_OTHERS:
            warnings.filterwarnings('ignore', beginning, UserWarning)
        with ends_in_one_line():
            try:
                return function(*args, **kwargs)
            except Exception as error:
                message = mistake(error)
                if message is None:
                    raise
                _log(error)
                if os.environ.get(TRACEBACK, '0') not in ('', '0'):
                    traceback.print_exc()
                print(f'error: {message}', file=sys.stderr)
                raise SystemExit(MISTAKE) from None

    return main  # type: ignore[return-value]


@contextmanager
def ends_in_one_line() -> Iterator[None]:
    """End a command without a traceback where that would tell its user nothing.

    Ctrl-C gives exit status 130. A training whose loss is not finite (``FiniteLossHook``)
    gives its message and exit status 1. Everything else passes.

    Example:
        >>> with ends_in_one_line():
        ...     main()
    """
    try:
        yield
    except KeyboardInterrupt:
        # the processes of loaders and of the CRF are ended below, undisturbed
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print('\nstopped by Ctrl-C', file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except FloatingPointError as error:
        print(f'error: {error}', file=sys.stderr)
        raise SystemExit(1) from None


def mistake(error: BaseException) -> Optional[str]:
    """What the user did wrong, in one line; None if the program is at fault."""
    worker = re.match(r'Caught \w+ in DataLoader worker process', str(error))
    if worker:
        return _mistake_in_worker(error)
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, OSError) and (error.filename or error.errno in _DISK):
        return _one_line(_describe(error))
    if isinstance(error, _REFUSALS) and frames:
        last = frames[-1]
        line = linecache.getline(last.filename, last.lineno or 0).strip()
        if _is_ours(last.filename) and line.startswith('raise'):
            # of a KeyError str() is the message in quotation marks
            is_key = isinstance(error, KeyError) and error.args
            return _one_line(str(error.args[0] if is_key else error))
    if isinstance(error, (KeyError, TypeError)) and _built_from_config(frames):
        text = str(error.args[0]) if error.args else ''
        if any(sign in text for sign in _RAISED_BY_BUILDING):
            return _one_line(f'the config does not fit: {text.split(". Please check")[0]}')
    part = _part_being_built(frames)
    if part and isinstance(error, (ValueError, TypeError, AssertionError)):
        text = str(error).rstrip().rstrip('.') or type(error).__name__
        return _one_line(
            f'the config does not fit ({part}): {text}; {TRACEBACK}=1 in the environment '
            'shows where'
        )
    return None


def _mistake_in_worker(error: BaseException) -> Optional[str]:
    """Of an error that a data loader's worker raised, whose traceback is its text."""
    text = str(error)
    places = re.findall(r'^  File "(.+)", line \d+, in .*\n    (.*)$', text, re.MULTILINE)
    raised = re.findall(r'^(?:\w+\.)*\w*(?:Error|Exception): ', text, re.MULTILINE)
    if places and raised and _is_ours(places[-1][0]) and places[-1][1].startswith('raise'):
        return _one_line(text[text.rindex(raised[-1]) + len(raised[-1]) :])
    return None


def _is_ours(path: str) -> bool:
    """Whether a file is of this package or of its tools."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    folders = [os.path.join(root, name, '') for name in ('mmseg_more', 'tools')]
    return os.path.abspath(path).startswith(tuple(folders))


def _part_being_built(frames: traceback.StackSummary) -> Optional[str]:
    """The part of a config that MMEngine's Runner was building when others raised.

    What PyTorch, say, refuses there are values of the config. None if it was not building,
    or if a line of this package failed, which is a fault of the program.
    """
    if not frames or _is_ours(frames[-1].filename):
        return None
    functions = [
        frame.name.lstrip('_')
        for frame in frames
        if os.path.basename(os.path.dirname(frame.filename)) in ('runner', '_strategy')
        and frame.name.lstrip('_').startswith(_BUILDING)
    ]
    if not functions:
        return None
    loop = next((name for name in functions if _LOOP.fullmatch(name)), None)
    part = functions[-1].partition('_')[2]
    if loop is not None and part in ('dataloader', 'evaluator'):
        return loop.split('_')[1] + '_' + part
    return re.sub('_loop$', '_cfg', part)


def _built_from_config(frames: traceback.StackSummary) -> bool:
    return any(
        os.path.join('mmengine', 'registry') in frame.filename for frame in frames[-2:]
    )


def _describe(error: OSError) -> str:
    name = f'{error.filename}: ' if error.filename else ''
    remedy = {
        errno.ENOSPC: 'make room, or choose a folder on another disk',
        errno.EDQUOT: 'make room, or choose a folder on another disk',
        errno.EROFS: 'choose a folder that can be written to',
        errno.EACCES: 'change its permissions, or choose another place',
        errno.EPERM: 'change its permissions, or choose another place',
        errno.ENOTDIR: 'a file stands where a folder is needed; choose another place',
        errno.EEXIST: 'a file stands where a folder is needed; choose another place',
        errno.EISDIR: 'a folder stands where a file is needed; choose another place',
        errno.ENOENT: 'correct the path',
    }.get(error.errno or 0)
    text = error.strerror or str(error)
    return f'{name}{text}' + (f': {remedy}' if remedy else '')


def _one_line(text: str) -> str:
    return ' '.join(text.split())


def _log(error: BaseException) -> None:
    """Write the traceback into the log files of this run alone."""
    if not MMLogger._instance_dict:
        return
    logger = MMLogger.get_current_instance()
    record = logger.makeRecord(
        logger.name,
        logging.ERROR,
        __file__,
        0,
        'the run ended:',
        (),
        (type(error), error, error.__traceback__),
    )
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(record)
