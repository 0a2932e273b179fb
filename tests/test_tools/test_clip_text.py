"""tools/model_converters/clip_text.py, with a tiny CLIP that is made here."""

import json
import sys

import pytest
import torch
from torch.testing import assert_close

from mmseg_more.apis.clip_text import TEMPLATES, clip_text_vectors, read_class_words
from mmseg_more.text_vectors import read_text_vectors
from scripts import load_script

transformers = pytest.importorskip('transformers')  # after mmseg_more: see its compat.py


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A CLIP with random weights and a tokenizer of a few words."""
    path = tmp_path_factory.mktemp('clip')
    torch.manual_seed(0)
    small = dict(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    letters = [chr(code) for code in range(ord('a'), ord('z') + 1)] + ['.']
    pieces = [*letters, *(letter + '</w>' for letter in letters)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    for special in ('<|startoftext|>', '<|endoftext|>'):
        vocabulary[special] = len(vocabulary)
    ends = dict(bos_token_id=len(vocabulary) - 2, eos_token_id=len(vocabulary) - 1)
    (path / 'vocab.json').write_text(json.dumps(vocabulary))
    (path / 'merges.txt').write_text('#version: 0.2\n')
    tokenizer = transformers.CLIPTokenizer(
        str(path / 'vocab.json'), str(path / 'merges.txt'), model_max_length=77
    )
    tokenizer.save_pretrained(path)
    config = transformers.CLIPConfig(
        text_config=dict(small, vocab_size=len(vocabulary), **ends),
        vision_config=dict(small, hidden_size=24, image_size=32, patch_size=8),
        projection_dim=12,
    )
    transformers.CLIPModel(config).save_pretrained(path)
    return path


@pytest.fixture
def tool(repo_root):

    def run(*arguments):
        module = load_script(repo_root / 'tools' / 'model_converters' / 'clip_text.py')
        return module.main([str(argument) for argument in arguments])

    return run


@pytest.fixture
def classes(tmp_path):
    (tmp_path / 'classes.txt').write_text('background\ncat\n\ndoggy: dog, puppy\n')
    return tmp_path / 'classes.txt'


def similarity(folder, text, tokens):
    """CLIP's logit, without its scale, of a text and of what its image tower gives."""
    model = transformers.CLIPModel.from_pretrained(folder)
    inputs = transformers.AutoTokenizer.from_pretrained(folder)([text], return_tensors='pt')
    with torch.no_grad():
        vector = model.get_text_features(**inputs).pooler_output[0]
        return model.visual_projection(tokens) @ (vector / vector.norm())


def test_one_word_and_template_is_clip(folder):
    """The vector times a token after the last norm: CLIP's own similarity."""
    found = clip_text_vectors(str(folder), dict(cat=['cat']), ['sky'], ['a photo of {}.'])
    tokens = torch.randn(5, 24)
    for vectors, text in (
        (found.vectors, 'a photo of cat.'),
        (found.background_vectors, 'a photo of sky.'),
    ):
        expected = similarity(folder, text, tokens)
        assert_close(tokens @ torch.from_numpy(vectors[0]), expected, rtol=1e-4, atol=1e-5)


def test_words_and_templates_are_averaged(folder):
    """Directions are: the mean of texts of norm 1, brought to norm 1 again."""
    model = transformers.CLIPModel.from_pretrained(folder)
    templates = ['a photo of {}.', 'the {}']
    found = clip_text_vectors(str(folder), dict(d=['dog', 'puppy']), [], templates)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    total = 0
    with torch.no_grad():
        for word in ('dog', 'puppy'):
            for template in templates:
                inputs = tokenizer([template.format(word)], return_tensors='pt')
                vector = model.get_text_features(**inputs).pooler_output[0]
                total = total + vector / vector.norm()
        expected = (total / total.norm()) @ model.visual_projection.weight
    # texts of other lengths are padded, which rounds in another way
    assert_close(torch.from_numpy(found.vectors[0]), expected, rtol=1e-4, atol=1e-5)
    assert found.background_vectors.shape == (0, 24)


def test_file(tool, folder, classes, tmp_path, capsys):
    out = tmp_path / 'text.npz'
    assert tool(folder, classes, out) == 0
    found = read_text_vectors(out)
    assert found.classes.tolist() == ['cat', 'doggy']
    assert found.vectors.shape == (2, 24) and found.vectors.dtype == 'float32'
    assert len(found.background) == 25 and found.background[6] == 'sky'
    assert '2 classes (cat, doggy) and 25 words' in capsys.readouterr().out
    assert len(TEMPLATES) == 7

    chosen = ('--background', 'sky', '--templates', 'a {}.', 'the {}')
    assert tool(folder, classes, out, *chosen) == 0
    assert read_text_vectors(out).background.tolist() == ['sky']
    assert tool(folder, classes, out, '--background') == 0
    assert not len(read_text_vectors(out).background)


def test_mistakes(tool, folder, classes, tmp_path, mistake_of, monkeypatch):
    out = tmp_path / 'text.npz'
    assert 'ends with .npz' in mistake_of(tool, folder, classes, tmp_path / 'text.json')
    assert 'is no folder' in mistake_of(tool, 'openai/clip-vit-base-patch16', classes, out)
    message = mistake_of(tool, folder, classes, out, '--templates', 'a photo')
    assert "need {} for the word once, got ['a photo']" in message
    assert 'classes.txt' in mistake_of(tool, folder, tmp_path / 'no' / 'classes.txt', out)
    monkeypatch.setitem(sys.modules, 'transformers', None)
    assert 'pip install "mmseg_more[backbones]"' in mistake_of(tool, folder, classes, out)
    assert not out.exists()


def test_models_that_are_no_whole_clip(tool, folder, classes, tmp_path, mistake_of):
    out, other = tmp_path / 'text.npz', tmp_path / 'other'
    model = transformers.CLIPModel.from_pretrained(folder)
    model.vision_model.config.save_pretrained(other)
    message = mistake_of(tool, other, classes, out)
    assert "a model of type 'clip_vision_model', not a whole CLIP" in message

    state = model.state_dict()
    del state['text_projection.weight']
    model.save_pretrained(other, state_dict=state)
    message = mistake_of(tool, other, classes, out)
    assert 'lack 1 of CLIP, such as text_projection.weight' in message
    assert not out.exists()


def test_class_files_of_other_editors(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('background\ncat\n', encoding='utf-8-sig')
    assert read_class_words(str(path)) == {'cat': ['cat']}
    path.write_text('châtaigne\n', encoding='latin-1')
    with pytest.raises(ValueError, match='classes.txt is not text in UTF-8'):
        read_class_words(str(path))


@pytest.mark.parametrize(
    'text, message',
    [
        ('', 'names no class'),
        ('cat\ndog\ncat\n', "class 'cat' is there twice"),
        ('cat:\n', "expected 'NAME' or 'NAME: WORD, WORD', got 'cat:'"),
        ('cat: tiger,, lion\n', 'expected'),
    ],
)
def test_wrong_class_files(tmp_path, text, message):
    (tmp_path / 'classes.txt').write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_words(str(tmp_path / 'classes.txt'))
