"""Jobs: what is asked for, the queue, worker processes, progress, results."""
