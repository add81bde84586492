"""`python -m resnet_nb`."""

import sys

from resnet_nb.cli import main

sys.exit(main())
