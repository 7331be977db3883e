"""The benchmark: direct, nginx and wiretape before one fake upstream, in the same run. `python -m tests.bench --help`.

Figures of different runs or machines do not compare; the ratios between the columns of one run do.
"""
