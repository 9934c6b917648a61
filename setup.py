"""The stub that lets old tools build; everything stands in setup.cfg."""

from setuptools import setup

setup()
