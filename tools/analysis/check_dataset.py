"""Look at images and image labels of one's own before training: one page.

    python -m mmseg_more check_dataset photos labels.csv
    python -m mmseg_more check_dataset photos folders     # photos/CLASS/NAME.jpg

LABELS is a JSON file ({"ID": ["class", ...]} or COCO instances), a CSV file of any
delimiter, a folder of VOC XML, or the word "folders" where images lie in folders that have
their classes as names. The page has the images of each class, which classes appear
together, sizes, and what is wrong or will harm the training, each with what to do:

* error: an image or a label cannot be used; make_config does without it
* warning: the masks will suffer
* note: what is done with something unusual

The exit status is 1 if there is nothing to train on.
"""

import argparse
import shlex
import sys
from typing import Optional, Sequence

from mmseg_more.datasets.own_data import find_all, make_survey, survey_page
from mmseg_more.engine.command_line import CommandParser, command


def parse_args(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    parser.add_argument('images', help='folder of the images; its subfolders count too')
    parser.add_argument('labels', help='file or folder of the labels, or "folders"')
    return parser.parse_args(argv)


@command
def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    survey = make_survey(args.images, args.labels)
    findings = find_all(survey)
    print(survey_page(survey, findings))
    if not survey.classes():
        print('\nnext: correct the labels, then run this again')
        return 1
    arguments = shlex.join([args.images, args.labels, '--out', 'mine.py'])
    print(f'\nnext: python -m mmseg_more make_config {arguments}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
