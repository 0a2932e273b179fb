"""How the protocols of masks are shown: the figures, and what they depend on."""

from typing import Any, Iterable, List, Mapping, Optional, Sequence

from prettytable import PrettyTable

from ..report import COLUMN_TITLES

PROTOCOLS = dict(raw='raw', ms='multi-scale', ms_crf='multi-scale + CRF')
"""Titles of the columns."""


def format_protocols(
    figures: Mapping[str, float], names: Sequence[str], settings: Mapping[str, Any]
) -> str:
    """mIoU by map and protocol, and below it what the figures depend on.

    Args:
        figures: Flat, in percent: ``lam/ms/mIoU`` and so on.
        names: The rows.
        settings: Those of ``ProtocolMetric``.
    """
    table = PrettyTable(['mIoU in percent', *PROTOCOLS.values()])
    table.align = 'r'
    table.align['mIoU in percent'] = 'l'
    for name in names:
        table.add_row(
            [
                COLUMN_TITLES[name],
                *(_cell(figures, f'{name}/{protocol}') for protocol in PROTOCOLS),
            ]
        )
    crf = settings['crf']
    lines = [
        f'split: {settings["split"] or "not named"}; {settings["num_images"]} images',
        f'sizes (height x width): {settings["image_size"]}, at which labels are '
        f'compared and the CRF runs; {settings["network_size"]} in the network',
        'raw: scale 1; maps with flip, segmentation without',
        f'multi-scale: maps at {_join(settings["ms_scales"])}, summed over scales '
        f'and flips; segmentation at {_join(settings["seg_scales"])}, maximum '
        'over scales of the sum of image and flip',
        'maps show the classes of the image label alone; without CRF, background '
        f'threshold {_thresholds(settings["bkg"])}'
        + (
            f', multi-scale {_thresholds(settings["bkg_ms"])}'
            if 'bkg_ms' in settings
            else ''
        )
        + ' (in parentheses: best mIoU and its threshold); with CRF, background = 1 '
        '- maximum of the present classes'
        + (
            ', of maps whose threshold is moved to .5'
            if settings.get('background') == 'calibrated'
            else ''
        ),
        f'CRF: {crf["num_iters"]} iterations, Gaussian sxy {crf["gaussian_sxy"]:g} '
        f'weight {crf["gaussian_weight"]:g}, bilateral sxy '
        f'{crf["bilateral_sxy"]:g} srgb {crf["bilateral_srgb"]:g} weight '
        f'{crf["bilateral_weight"]:g}; classes below {settings["epsilon"]:g} '
        'everywhere left out',
    ]
    return '\n'.join(['masks by protocol:', table.get_string(), *lines])


def _cell(figures: Mapping[str, float], key: str) -> str:
    text = f'{figures[f"{key}/mIoU"]:.2f}'
    if f'{key}/mIoU_best' in figures:
        text += (
            f' ({figures[f"{key}/mIoU_best"]:.2f} at {figures[f"{key}/best_threshold"]:g})'
        )
    return text


def _thresholds(values: Mapping[str, float]) -> str:
    return ', '.join(f'{COLUMN_TITLES[name]} {value:g}' for name, value in values.items())


def _join(values: Iterable[float]) -> str:
    return ', '.join(f'{value:g}' for value in values)


def size_range(sizes: Iterable[Optional[Sequence[int]]]) -> str:
    """Sizes ``(H, W)`` of all images, as ``375x500`` or ``112..500x80..500``."""
    known: List[Sequence[int]] = [size for size in sizes if size is not None]
    if not known:
        return 'unknown'
    return 'x'.join(
        f'{low}' if low == high else f'{low}..{high}'
        for low, high in (
            (min(side), max(side)) for side in zip(*(size[:2] for size in known))
        )
    )
