"""`--network tiny` for the tests in which the recipe and not the network is tested."""

import tests.networks  # noqa: F401
