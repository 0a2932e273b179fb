# What is drawn on photographs, background first. The name is not `metainfo`, so that a
# config of the drawn shapes can take this file beside its own data set.
natural_metainfo = dict(
    classes=(
        'background', 'disk', 'rectangle', 'triangle', 'cross', 'ring', 'hexagon', 'star',
        'boat', 'arrow', 'flower', 'crescent', 'corner', 'bar', 'diamond', 'trapezoid',
        'octagon', 'gear', 'drop', 'tee', 'water',
    )
)  # fmt: skip
