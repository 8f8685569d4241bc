"""How fast a bundle is on this machine, by MLPerf Inference's method: scenarios, sweep, environment, cost, report, comparison."""
