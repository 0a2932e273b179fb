"""Measuring equipment: one command line per question, see README.md in this folder.

Nothing in the package needs it. It measures the product as it is: what has to be switched
off for a comparison is an option or an argument of the product.
"""

import mmseg_more  # noqa: F401  before mmpretrain, whose import it mends
