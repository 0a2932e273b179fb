"""The metrics that a config names."""

from typing import Any, List


def evaluator_list(evaluators: Any) -> List[Any]:
    """The metrics of a ``val_evaluator`` or ``test_evaluator``, one or several.

    Args:
        evaluators: What the config says: a metric, a list of them, or nothing.
    """
    if not evaluators:
        return []
    return list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]
