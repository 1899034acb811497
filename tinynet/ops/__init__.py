"""The differentiable operations, a file a topic, whose `__all__` says what is public. NumPy's names and order."""

from . import (
    activation,
    conv,
    elementwise,
    inplace,
    logic,
    loss,
    norm,
    pool,
    protocols,
    random,
    recurrent,
    reduce,
    shape,
)
from . import matmul as products

TOPICS = (activation, conv, elementwise, logic, loss, products, norm, pool, random, recurrent, reduce, shape)

# Imported after the topics, as an operation replaces the topic of its name: ops.matmul is a function.
from .activation import *
from .conv import *
from .described import describe
from .elementwise import *
from .logic import *
from .loss import *
from .matmul import *
from .norm import *
from .pool import *
from .random import *
from .recurrent import *
from .reduce import *
from .shape import *

__all__ = [_name for _topic in TOPICS for _name in _topic.__all__]
protocols.PUBLIC.update((_name, globals()[_name]) for _name in __all__)

for _topic in TOPICS:
    for _name in _topic.__all__:
        describe(vars(_topic)[_name], _topic in (activation, elementwise, logic))
