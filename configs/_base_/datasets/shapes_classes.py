# What can be drawn, background first.
metainfo = dict(
    classes=('background', 'disk', 'rectangle', 'triangle', 'cross', 'ring', 'hexagon')
)
