"""Many machines on one campaign: the terms for a worker, the jobs of its slots, and the worker itself."""
