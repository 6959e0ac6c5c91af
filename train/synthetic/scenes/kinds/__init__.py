"""The kinds of simulated scenes: each function plans one."""
