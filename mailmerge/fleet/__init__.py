"""Many machines on one campaign: what a worker is told, the jobs of its slots, and the worker itself."""
