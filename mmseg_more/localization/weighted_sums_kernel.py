"""The kernel of :mod:`.weighted_sums`; imported where Triton is installed."""

import triton
import triton.language as tl


@triton.jit
def sum_rows(
    table,
    rows,
    weights,
    starts,
    result,
    num_sums,
    num_entries,
    channels,
    entries_per_sum,
    VARYING: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """See :func:`~mmseg_more.localization.weighted_sums.weighted_sums`.

    Args:
        table: ``(R, channels)``.
        rows: Numbers of rows, ``(num_entries, )``, sum by sum.
        weights: One for each of ``rows``.
        starts: First entry of each sum, ``(num_sums, )``; not read unless VARYING.
        result: ``(num_sums, channels)``, written.
        num_sums: Their number.
        num_entries: Number of entries of all of them.
        channels: Of the table.
        entries_per_sum: Of all sums; not read if VARYING.
        VARYING: Whether each sum has a number of entries of its own.
        BLOCK: Sums of one program.
        WIDTH: Channels of one program.
    """
    sums = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    valid = sums < num_sums
    if VARYING:
        first = tl.load(starts + sums, mask=valid, other=0).to(tl.int64)
        last = tl.load(starts + sums + 1, mask=sums + 1 < num_sums, other=num_entries).to(
            tl.int64
        )
        length = tl.where(valid, last - first, 0)
        longest = tl.max(length, axis=0)
    else:
        first = sums * entries_per_sum
        length = tl.where(valid, entries_per_sum, 0)
        longest = entries_per_sum
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for entry in range(longest):
        exists = valid & (entry < length)
        row = tl.load(rows + first + entry, mask=exists, other=0).to(tl.int64)
        weight = tl.load(weights + first + entry, mask=exists, other=0.0)
        value = tl.load(
            table + row[:, None] * channels + channel[None, :],
            mask=exists[:, None] & (channel < channels)[None, :],
            other=0.0,
        )
        total += weight[:, None] * value
    tl.store(
        result + sums[:, None] * channels + channel[None, :],
        total,
        mask=valid[:, None] & (channel < channels)[None, :],
    )
