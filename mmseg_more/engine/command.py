"""How a command ends that is stopped: in one line."""

import signal
import sys
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def ends_in_one_line() -> Iterator[None]:
    """End a command without a traceback where that would tell its user nothing.

    Ctrl-C gives exit status 130. A training whose loss is not finite (``FiniteLossHook``)
    gives its message and exit status 1. Everything else passes.

    Example:
        >>> if __name__ == '__main__':
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
