"""`python3 hack/cluster up|down|load|python-base|status`: see README.md beside this file."""

import sys

from aiservice_cluster.cli import main

sys.exit(main(sys.argv[1:]))
