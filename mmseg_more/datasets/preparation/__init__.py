"""What makes a data set of the field ready for the data sets of this package.

Nothing here is imported by a training: the command lines in ``tools/dataset_converters``
call it.
"""
