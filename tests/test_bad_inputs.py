"""What users give to the tools by mistake."""

import pytest

from bad_inputs import CASES, outcome, page


@pytest.mark.parametrize('case', CASES, ids=lambda case: f'{case.topic}-{case.name}'[:60])
def test_bad_input(case, tmp_path):
    found = outcome(case, tmp_path)
    # as the table names files: from where the user stands
    for prefix in (f'{tmp_path}/images/x.', f'{tmp_path}/images/a.'):
        if case.topic == 'Images':
            found = found.replace(prefix, prefix.rpartition('/')[2])
    found = found.replace(f'{tmp_path}/', '').replace(f' {tmp_path} ', ' ')
    assert '\n' not in found
    if case.expected.startswith('error: '):
        assert found.startswith(case.expected)
    else:
        assert found == case.expected


def test_the_documentation_is_of_these_cases(repo_root):
    assert len(CASES) >= 60
    written = (repo_root / 'docs' / 'inputs.md').read_text(encoding='utf-8')
    assert written == page(), 'python tests/bad_inputs.py > docs/inputs.md'
