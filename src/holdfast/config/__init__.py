"""Settings: read once from the environment, checked, frozen, and passed by hand."""

from holdfast.config.listing import Line as Line
from holdfast.config.listing import listing as listing
from holdfast.config.listing import masked as masked
from holdfast.config.listing import page as page
from holdfast.config.listing import unknown as unknown
from holdfast.config.production import development_key as development_key
from holdfast.config.production import production_problems as production_problems
from holdfast.config.production import production_warnings as production_warnings
from holdfast.config.production import refuse_unfit_production as refuse_unfit_production
from holdfast.config.secret import signing_secret as signing_secret
from holdfast.config.settings import EMBEDDED as EMBEDDED
from holdfast.config.settings import Settings as Settings
from holdfast.config.settings import variable as variable
