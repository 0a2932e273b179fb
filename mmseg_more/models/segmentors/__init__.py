from .more import MoRe

__all__ = ['MoRe']
