"""Deployment: the service, the containers, and the checks of both: `python -m deploy`."""
