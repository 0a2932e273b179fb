"""Write the vectors of class names by CLIP's text tower, for model.text_classifier.

    python tools/model_converters/clip_text.py MODEL CLASSES voc_text.npz

MODEL is a folder with a CLIP of transformers and its tokenizer; nothing is downloaded.
CLASSES has a class on each line, as the data set calls it, or with other words for it:
``tvmonitor: television, screen``. docs/backbones.md says what becomes of the vectors.
"""

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence

from mmseg_more.apis.clip_text import (
    BACKGROUND,
    TEMPLATES,
    clip_text_vectors,
    read_class_words,
)
from mmseg_more.engine.command_line import CommandParser, command
from mmseg_more.text_vectors import write_text_vectors


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('model', help='folder of a CLIP of transformers')
    parser.add_argument('classes', help='text file with a class on each line')
    parser.add_argument('out', help='file to write, .npz')
    parser.add_argument(
        '--background',
        nargs='*',
        default=list(BACKGROUND),
        metavar='WORD',
        help='words for what is no class; none: an empty list '
        f'(default: {", ".join(BACKGROUND)})',
    )
    parser.add_argument(
        '--templates',
        nargs='+',
        default=list(TEMPLATES),
        metavar='TEXT',
        help='texts in which {} stands for the word (default: the seven of CLIP that do '
        'best together on ImageNet)',
    )
    args = parser.parse_args(argv)
    if Path(args.out).suffix != '.npz':
        parser.error(f'{args.out}: the file to write ends with .npz')
    return args


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    classes = read_class_words(args.classes)
    vectors = clip_text_vectors(args.model, classes, args.background, args.templates)
    write_text_vectors(args.out, vectors)
    print(
        f'{args.out}: {len(classes)} classes ({", ".join(classes)}) and '
        f'{len(args.background)} words of background, {vectors.vectors.shape[1]} channels'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
