"""The speed of a bundle on this machine by MLPerf Inference's method: scenarios, sweep, environment, cost, report, comparison."""
