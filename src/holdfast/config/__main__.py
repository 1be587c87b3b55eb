"""`python -m holdfast.config` prints docs/settings.md."""

import sys

from holdfast.config.listing import page

sys.stdout.write(page())
