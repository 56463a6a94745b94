"""The table of the suite: an optimizer joins it with one line."""

from adafactor import ENTRY as ADAFACTOR
from adamw import ENTRY as ADAMW
from apollo import ENTRY as APOLLO
from apollo import ENTRY_MINI as APOLLO_MINI
from cautious import ENTRY as CAUTIOUS
from cosmos import ENTRY as COSMOS
from dct_adamw import ENTRY as DCT_ADAMW
from dion import ENTRY as DION
from fira import ENTRY as FIRA
from frugal import ENTRY as FRUGAL
from frugal import ENTRY_BLOCKS as FRUGAL_BLOCKS
from galore import ENTRY as GALORE
from galore import OPTAX_ENTRY as GALORE_OPTAX
from growth_limiter import ENTRY as GROWTH_LIMITER
from independent_decay import ENTRY as INDEPENDENT_WEIGHT_DECAY
from lion import ENTRY as LION
from mars import ENTRY as MARS
from muon import ENTRY as MUON
from muon import ENTRY_OPTAX as MUON_OPTAX
from natural_galore import ENTRY as NATURAL_GALORE
from optax_basic import ENTRY as OPTAX_BASIC
from optax_schedule_free import ENTRY as OPTAX_SCHEDULE_FREE
from perp_grad import ENTRY as ORTHOGONAL_TO_PARAMS
from schedule_free import ENTRY as SCHEDULE_FREE
from sgd import ENTRY as SGD
from soap import ENTRY as SOAP
from spam import ENTRY as SPAM
from trion import ENTRY as TRION

TABLE = (
    ADAFACTOR,
    ADAMW,
    APOLLO,
    APOLLO_MINI,
    CAUTIOUS,
    COSMOS,
    DCT_ADAMW,
    DION,
    FIRA,
    FRUGAL,
    FRUGAL_BLOCKS,
    GALORE,
    GALORE_OPTAX,
    GROWTH_LIMITER,
    INDEPENDENT_WEIGHT_DECAY,
    LION,
    MARS,
    MUON,
    MUON_OPTAX,
    NATURAL_GALORE,
    OPTAX_BASIC,
    OPTAX_SCHEDULE_FREE,
    ORTHOGONAL_TO_PARAMS,
    SCHEDULE_FREE,
    SGD,
    SOAP,
    SPAM,
    TRION,
)

# One for each way of keeping state: like the parameters, as factors, as square factors, in low rank, with error
# feedback, with an average. The dearest checks are made for these, and for the rest by `make test-slow`.
REPRESENTATIVE = ("adamw", "adafactor", "muon", "soap", "galore", "apollo", "frugal", "dion", "schedule_free")
