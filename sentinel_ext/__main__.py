"""`python -m sentinel_ext` is `sentinel-ext`."""

from sentinel_ext.cli import main

main()
