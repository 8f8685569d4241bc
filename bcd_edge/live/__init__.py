"""A microscope's camera, answered while it runs: the newest frame, an answer where it is still and in focus, smoothed over time."""
