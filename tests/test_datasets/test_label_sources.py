"""Labels of a user's own images, in the forms that there are."""

import json

import pytest

from mmseg_more.datasets.label_sources import match_labels, read_labels

EXPECTED = {'a.jpg': ['cat'], 'b.png': ['cat', 'dog'], 'c.jpg': []}
IMAGES = ['a.jpg', 'b.png', 'c.jpg']


@pytest.fixture
def read(tmp_path):
    def read(name, text, images=IMAGES):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_labels(path, images)

    return read


@pytest.mark.parametrize(
    'text, form',
    [
        ('image,labels\na.jpg,cat\nb.png,cat;dog\nc.jpg,\n', "names, delimiter ','"),
        ('Image;Labels\na.jpg;cat\nb.png;cat,dog\nc.jpg;\n', "names, delimiter ';'"),
        ('file name\tclass\na.jpg\tcat\nb.png\tcat|dog\nc.jpg\t\n', 'delimiter tab'),
        ('path|species\na.jpg|cat\nb.png|cat,dog\nc.jpg|\n', "delimiter '|'"),
        ('image,labels\na.jpg,cat\nb.png,cat,dog\nc.jpg\n', 'names'),
        ('a.jpg,cat\nb.png,cat;dog\nc.jpg,\n', 'names without a header'),
        ('a.jpg;cat\r\nb.png;cat,dog\r\nc.jpg;\r\n', 'names without a header'),
        ('\ufeffimage,label\n\na.jpg,cat\nb.png,dog\nb.png,cat\nc.jpg,\n', 'names'),
        ('image,cat,dog\na.jpg,1,0\nb.png,1,1\nc.jpg,0,0\n', 'a column for each class'),
        ('id,cat,dog\na.jpg,x,\nb.png,x,x\nc.jpg,,\n', 'a column for each class'),
        ('filename,width,class,xmin\na.jpg,9,cat,1\nb.png,9,cat,2\nb.png,9,dog,3\n'
         'c.jpg,9,,0\n', "column 'class'"),
        # a table's row number in front of the image
        (',image,labels\n0,a.jpg,cat\n1,b.png,cat;dog\n2,c.jpg,\n', 'names'),
        ('id,file_name,label\n0,a.jpg,cat\n1,b.png,cat;dog\n2,c.jpg,\n', 'names'),
        ('Unnamed: 0;id;Path;cat;dog\n0;1;a.jpg;1;0\n1;0;b.png;1;1\n0;0;c.jpg;0;0\n',
         'a column for each class'),
        ('index,label,name\n0,cat,a.jpg\n1,cat;dog,b.png\n2,,c.jpg\n', "column 'label'"),
        ('path,image,labels\n/x,a.jpg,cat\n/x,b.png,cat;dog\n/x,c.jpg,\n', 'names'),
        ('image_path,label\na.jpg,cat\nb.png,cat;dog\nc.jpg,\n', "names, delimiter ','"),
        ('image,labels\na.jpg,"[\'cat\']"\nb.png,"[\'cat\', \'dog\']"\nc.jpg,[]\n', ''),
        ('a.jpg;["cat"]\nb.png;["cat", "dog"]\nc.jpg;[""]\n', 'names without a header'),
        ('labels,image\ncat,a.jpg\ncat;dog,b.png\n,c.jpg\n', "column 'labels'"),
        # headers by what is below them
        ('Bild;Klassen\na.jpg;cat\nb.png;cat,dog\nc.jpg;\n', "names, delimiter ';'"),
        ('photo,cat,dog\na.jpg,1,0\nb.png,1,1\nc.jpg,0,0\n', 'a column for each class'),
    ],
)  # fmt: skip
def test_tables(read, text, form):
    source = read('labels.csv', text)
    found = {name: sorted(names) for name, names in source.labels.items()}
    assert found == EXPECTED
    assert form in source.form


@pytest.mark.parametrize('name', ['', 'id', 'index', 'Unnamed: 0', 'name', 'fname'])
def test_the_first_column_alone_has_the_images(read, name):
    source = read('labels.csv', f'{name},labels\n7,cat\n8,dog\n')
    assert source.labels == {'7': ['cat'], '8': ['dog']}


def test_a_class_may_be_called_like_a_column(read):
    source = read('labels.csv', 'image,path,id\na.jpg,1,0\nb.jpg,0,1\n')
    assert source.labels == {'a.jpg': ['path'], 'b.jpg': ['id']}


def test_other_columns_may_have_several_lines(read):
    source = read('labels.csv', 'image,note,labels\na,"two\nlines",cat\n')
    assert source.labels == {'a': ['cat']}


def test_names_in_a_list_have_any_letters(read):
    cells = ['"[""it\'s"", \'a; b\', ""c, d""]"', '"[""\\ud83d\\ude00"", ""\\""""]"']
    source = read('labels.csv', f'image,labels\na,{cells[0]}\nb,{cells[1]}\n')
    assert source.labels == {'a': ["it's", 'a; b', 'c, d'], 'b': ['😀', '"']}


def test_without_a_header_the_first_row_is_an_image(read):
    source = read('labels.csv', 'a,cat\nb,dog\n')
    assert source.labels == {'a': ['cat'], 'b': ['dog']}
    assert read('labels.csv', 'a,cat\n').labels == {'a': ['cat']}


def test_quoted_names(read):
    source = read('labels.tsv', '"a, b.jpg";"cat"\n"c;d.jpg";dog\n')
    assert source.labels == {'a, b.jpg': ['cat'], 'c;d.jpg': ['dog']}


@pytest.mark.parametrize(
    'text, message',
    [
        ('a.jpg\nb.jpg\n', 'the first line has no delimiter'),
        ('', 'the first line has no delimiter'),
        ('image,labels\n,cat\n', 'row 2: the name of the image is empty'),
        ('image,a,b\nx.jpg,cat,4\n', 'does not say where the classes are'),
        ('image,cat\nx.jpg,1,1\n', 'more columns than the header'),
        (
            'sample,cat,dog\na,1,0\nb,1,1\n',
            "classes are '0', '1': if the first .* \"image\"",
        ),
        ('a.jpg,0\nb.jpg,1\n', 'begin with the line "image,labels"'),
        ('image,labels\n\na,cat\nb,[cat]\n', r"row 4: '\[cat\]' is not a list of names"),
        ("image,labels\na,\"['cat' 'dog']\"\n", 'row 2: .*cat.* is not a list of names'),
        ("image,labels\na,['cat', 'dog']\n", 'row 2: .*cat.* is not a list of names'),
        ('image,labels\na,"[1, 2]"\n', 'row 2: .* is not a list of names'),
        ('image,labels\na.jpg,"cat\nb.jpg,dog\n', 'row 2: not valid CSV: unexpected end'),
        ('image,labels\n\na,"cat\nb,dog"\n', r"row 3: a line break .* 'cat\\nb'; close"),
        ('image,labels\na,cat\n"b\rc",cat\n', r"row 3: a line break .* 'b\\rc'; close"),
        ('image,labels\na,ca\0t\n', 'row 2: .*NUL'),
        (',,\n', 'there is no row with a name'),
        ('id,image\n0,a.jpg\n', 'does not say where the classes are'),
        ('id,image,labels\n0\n', 'row 2: the name of the image is empty'),
        ('id,file_name,path,labels\n0,a,b,cat\n', "image: 'file_name', 'path'; call the"),
        ('image_id,path,labels\n0,a,cat\n', "the image: 'image_id', 'path'; call the"),
        ('image,labels\na.jpg,cat\n'.encode('utf-16'), 'save it as UTF-8'),
    ],
)
def test_tables_that_cannot_be_understood(read, text, message):
    with pytest.raises(ValueError, match=message):
        read('labels.csv', text)


def test_json(read):
    assert read('l.json', json.dumps(EXPECTED)) == ('JSON', EXPECTED)
    content = dict(
        images=[dict(id=1, file_name='x/a.jpg'), dict(id=2, file_name='y/a.jpg')],
        annotations=[dict(image_id=2, category_id=3)],
        categories=[dict(id=3, name='cat')],
    )
    source = read('l.json', json.dumps(content))
    # folders are kept, so that images of one name in two folders are two
    assert source == ('COCO JSON', {'x/a.jpg': [], 'y/a.jpg': ['cat']})


def test_voc_xml(tmp_path):
    (tmp_path / 'below').mkdir()
    for name, classes in (('a', ['cat']), ('below/b', [])):
        objects = ''.join(f'<object><name>{c}</name></object>' for c in classes)
        (tmp_path / f'{name}.xml').write_text(f'<annotation>{objects}</annotation>')
    (tmp_path / '._a.xml').write_bytes(b'\0\5\x16\7')  # a Mac's, beside the file
    (tmp_path / 'below/b.xml').rename(tmp_path / 'below/b.XML')
    source = read_labels(tmp_path, [])
    assert source == ('VOC XML', {'a': ['cat'], 'below/b': []})


def test_names_of_folders():
    images = ['cat/a.jpg', 'cat/deep/b.jpg', 'background/c.jpg', 'd.jpg']
    source = read_labels('folders', images)
    matched = match_labels(source.labels, images)
    assert matched.labels == {'background/c': [], 'cat/a': ['cat'], 'cat/deep/b': ['cat']}
    assert matched.unlabelled == ['d']


def test_what_is_no_source(tmp_path):
    with pytest.raises(FileNotFoundError, match="do not exist; .* 'folders'"):
        read_labels(tmp_path / 'none.csv', [])
    with pytest.raises(ValueError, match="holds no annotation .*'folders'"):
        read_labels(tmp_path, [])
    (tmp_path / 'l.pkl').touch()
    with pytest.raises(ValueError, match='labels are a .json or .csv'):
        read_labels(tmp_path / 'l.pkl', [])


@pytest.mark.parametrize(
    'name, image',
    [
        ('a', 'a.jpg'),
        ('a.jpg', 'a.jpg'),
        ('a.png', 'a.jpg'),  # what the file became
        ('photos/a.jpg', 'a.jpg'),
        ('C:\\photos\\sub\\a.jpg', 'sub/a.jpg'),
        ('./sub/a.jpg', 'sub/a.jpg'),
        ('a.jpg', 'sub/a.jpg'),
        ('x.v2', 'x.v2.jpg'),
    ],
)
def test_names_that_mean_an_image(name, image):
    matched = match_labels({name: ['cat', 'cat', 'Background']}, [image])
    assert matched.labels == {image[:-4]: ['cat']}
    assert not matched.unlabelled and not matched.orphans


def test_names_that_mean_none():
    images = ['x/a.jpg', 'y/a.jpg', 'sub/b.jpg', 'c.jpg']
    labels = {'a.jpg': ['cat'], 'other/b.jpg': ['cat'], 'C.jpg': ['cat']}
    matched = match_labels(labels, images)
    assert matched.orphans == list(labels)
    assert matched.unlabelled == ['c', 'sub/b', 'x/a', 'y/a']


def test_two_labels_of_one_image():
    assert match_labels({'a': ['cat'], 'a.jpg': ['cat']}, ['a.jpg']).labels == {
        'a': ['cat']
    }
    with pytest.raises(ValueError, match="'a' twice, as 'a' and 'a.jpg', with different"):
        match_labels({'a': ['cat'], 'a.jpg': ['dog']}, ['a.jpg'])


def test_two_images_of_one_name():
    labels, images = {'a.jpg': ['cat'], 'a.png': ['dog']}, ['a.jpg', 'a.png', 'b.jpg']
    with pytest.raises(ValueError, match="; 'a.jpg', 'a.png' are 2 images .*: rename all"):
        match_labels(labels, images)
    with pytest.raises(ValueError, match='; keep one$'):
        match_labels(labels, ['a.jpg', 'b.jpg'])
