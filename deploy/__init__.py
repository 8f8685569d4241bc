"""What proves the Jetson image and the wheel without a Jetson and without a Docker engine: `python -m deploy`, `make check-jetson`."""
