"""What benchmark.py promises: the median of its rounds counts, so that one slow round does no harm.

Plumbing. A round is a list of measurements, one for each of benchmark.LIMITS.
"""

import benchmark

WITHIN = [limit * 0.9 for limit in benchmark.LIMITS.values()]
BEYOND = [limit * 1.1 for limit in benchmark.LIMITS.values()]


def test_one_slow_round_of_three_misses_no_speed_limit():
    assert benchmark.missed([WITHIN, BEYOND, WITHIN]) == []


def test_two_slow_rounds_of_three_miss_the_speed_limits():
    assert benchmark.missed([WITHIN, BEYOND, BEYOND]) == list(benchmark.LIMITS)
