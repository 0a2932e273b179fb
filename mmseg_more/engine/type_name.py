"""The class that a part of a config names, in whatever way it does."""

from typing import Any, Mapping


def type_name(part: Any) -> str:
    """Name of the class of a part of a config, without scope or module.

    Args:
        part: A dict whose ``type`` is a name (``'MoRe'``, ``'mmseg.EncoderDecoder'``) or,
            in lazy configs, the class itself; or an object that is built already.

    Returns:
        The bare name; empty if the dict names no type.
    """
    kind = part.get('type', '') if isinstance(part, Mapping) else type(part)
    return getattr(kind, '__name__', str(kind)).rsplit('.', 1)[-1]
