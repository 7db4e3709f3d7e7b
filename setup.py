"""All is in pyproject.toml; this lets `pip install -e .` install its data-files, too, as a wheel does."""

from setuptools import Distribution, setup


class DistributionWithData(Distribution):
    """The editable install asks for `has_data`, which setuptools calls `has_data_files`."""

    has_data = Distribution.has_data_files


setup(distclass=DistributionWithData)
