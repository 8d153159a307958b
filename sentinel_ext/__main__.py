"""`python -m sentinel_ext` is `sentinel-ext`."""

from sentinel_ext.cli.entry import main

main()
