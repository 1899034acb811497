"""The differentiable operations, a file a topic, whose `__all__` says what is public. NumPy's names and order."""

from . import (
    activation,
    attention,
    conv,
    elementwise,
    index,
    inplace,
    logic,
    loss,
    pool,
    protocols,
    random,
    recurrent,
    reduce,
    resize,
    scan,
    shape,
)
from . import einsum as contraction
from . import embedding as tables
from . import matmul as products
from . import norm as normalisation

TOPICS = (
    activation,
    attention,
    conv,
    contraction,
    elementwise,
    tables,
    index,
    logic,
    loss,
    products,
    normalisation,
    pool,
    random,
    recurrent,
    reduce,
    resize,
    scan,
    shape,
)

# Imported after the topics, as an operation replaces the topic of its name: ops.matmul is a function.
from .activation import *
from .attention import *
from .conv import *
from .described import describe, with_lists
from .einsum import *
from .elementwise import *
from .embedding import *
from .index import *
from .logic import *
from .loss import *
from .matmul import *
from .norm import *
from .pool import *
from .random import *
from .recurrent import *
from .reduce import *
from .resize import *
from .scan import *
from .shape import *

__all__ = [_name for _topic in TOPICS for _name in _topic.__all__]
for _topic in TOPICS:
    for _name in _topic.__all__:
        describe(vars(_topic)[_name], _topic in (activation, elementwise, logic))
        globals()[_name] = vars(_topic)[_name] = with_lists(vars(_topic)[_name])
protocols.PUBLIC.update((_name, globals()[_name]) for _name in __all__)
